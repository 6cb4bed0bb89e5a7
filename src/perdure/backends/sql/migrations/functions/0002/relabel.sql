-- Bring rows of `session_labels` from what they were to what they are to be.
CREATE FUNCTION {schema}.relabel(before {schema}.session_labels[], after {schema}.session_labels[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
  DELETE FROM session_labels WHERE ctid = ANY (ARRAY(
    SELECT there.ctid
    FROM (SELECT * FROM unnest(before) EXCEPT SELECT * FROM unnest(after)) AS gone,
      LATERAL (
        SELECT l.ctid FROM session_labels AS l
        WHERE l.label = gone.label AND l.archived = gone.archived
          AND l.created_at = gone.created_at AND l.session_id = gone.session_id
        OFFSET 0
      ) AS there
  ));
  INSERT INTO session_labels
  SELECT * FROM unnest(after) EXCEPT SELECT * FROM unnest(before);
END
$function$
