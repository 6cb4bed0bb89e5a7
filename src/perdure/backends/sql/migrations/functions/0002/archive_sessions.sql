-- Archive those of the copies ({id, version, head} each) that are still kept as they are, as of `instant`; they stay due.
-- Tells of every copy since when it is archived, NULL if it is not, and whether a tombstone is in its place.
CREATE FUNCTION {schema}.archive_sessions(copies json, instant bigint)
 RETURNS TABLE(id uuid, archived_at bigint, buried boolean)
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
  ids uuid[] := ARRAY(SELECT c.id FROM json_to_recordset(copies) AS c(id uuid));
  active uuid[];
  before session_labels[];
BEGIN
  PERFORM FROM sessions WHERE id = ANY (ids) ORDER BY id FOR NO KEY UPDATE;
  active := ARRAY(
    SELECT s.id FROM json_to_recordset(copies) AS c(id uuid, version bigint, head text)
    JOIN sessions AS s ON s.id = c.id
    WHERE s.version = c.version AND s.head = c.head AND CASE WHEN s.archived_at IS NULL THEN true END
  );
  before := label_rows(active);
  UPDATE sessions SET archived_at = instant WHERE id = ANY (active);
  PERFORM relabel(before, label_rows(active));
  PERFORM put_metrics(active);
  RETURN QUERY
  SELECT c.id, CASE WHEN s.version = c.version AND s.head = c.head THEN s.archived_at END, t.session_id IS NOT NULL
  FROM json_to_recordset(copies) AS c(id uuid, version bigint, head text)
  LEFT JOIN sessions AS s ON s.id = c.id
  LEFT JOIN session_tombstones AS t ON t.session_id = c.id;
END
$function$
