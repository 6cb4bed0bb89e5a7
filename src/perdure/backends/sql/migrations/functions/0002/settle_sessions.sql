-- Those of the copies ({id, version, head} each) that are archived as they are here are due no longer.
CREATE FUNCTION {schema}.settle_sessions(copies json)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  ids uuid[] := ARRAY(SELECT c.id FROM json_to_recordset(copies) AS c(id uuid));
  held uuid[];
BEGIN
  held := ARRAY(SELECT id FROM sessions WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE);
  UPDATE sessions AS s SET due_at = NULL
  FROM json_to_recordset(copies) AS c(id uuid, version bigint, head text)
  WHERE s.id = c.id AND s.id = ANY (held) AND s.version = c.version AND s.head = c.head
    AND CASE WHEN s.archived_at IS NOT NULL THEN true END;
END
$function$
