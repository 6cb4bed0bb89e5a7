-- Remove sessions with all that belongs to them. Whoever calls holds the locks on their rows.
CREATE FUNCTION {schema}.remove_sessions(ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  found_labels bigint := 0;
  labels session_labels[];
BEGIN
  BEGIN
    labels := label_rows(ids);
    DELETE FROM session_labels WHERE ctid = ANY (ARRAY(
      SELECT there.ctid
      FROM unnest(labels) AS gone,
        LATERAL (
          SELECT l.ctid FROM session_labels AS l
          WHERE l.label = gone.label AND l.archived = gone.archived
            AND l.created_at = gone.created_at AND l.session_id = gone.session_id
          OFFSET 0
        ) AS there
    ));
    GET DIAGNOSTICS found_labels = ROW_COUNT;
  EXCEPTION WHEN data_exception THEN -- assets or tags that are no list
    labels := NULL;
  END;
  IF found_labels IS DISTINCT FROM cardinality(labels) THEN -- a row is damaged: its labels are looked for
    DELETE FROM session_labels WHERE session_id = ANY (ids);
  END IF;
  DELETE FROM session_entries WHERE session_id = ANY (ids);
  DELETE FROM session_queries WHERE session_id = ANY (ids);
  DELETE FROM session_tickets WHERE session_id = ANY (ids);
  DELETE FROM sessions WHERE id = ANY (ids);
END
$function$
