-- The rows of `session_labels` that these sessions are to have, made of their rows: `perdure.backends.labels`.
CREATE FUNCTION {schema}.label_rows(ids uuid[])
 RETURNS {schema}.session_labels[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
  RETURN ARRAY(
    SELECT DISTINCT ROW(named.label, (s.archived_at IS NOT NULL)::integer, s.created_at, s.id)::session_labels
    FROM sessions AS s, LATERAL (
      SELECT 'all' AS label
      UNION ALL SELECT 'user:' || s.user_id WHERE s.user_id IS NOT NULL
      UNION ALL SELECT 'type:' || s.type
      UNION ALL SELECT 'asset:' || jsonb_array_elements_text(s.assets)
      UNION ALL SELECT 'tag:' || jsonb_array_elements_text(s.tags)
    ) AS named
    WHERE s.id = ANY (ids)
  );
END
$function$
