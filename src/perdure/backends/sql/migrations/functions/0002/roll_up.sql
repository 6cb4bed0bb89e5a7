-- Bring up to `most` changes of `session_metrics` into the roll-up, and tell how many they were.
CREATE FUNCTION {schema}.roll_up(most bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
DECLARE
  changed bigint[];
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('perdure.roll_up'), hashtext(current_schema()));
  -- Day by day, so that a batch is about few cells. These and no others: more may come while this runs.
  changed := ARRAY(SELECT c.id FROM session_metrics_changes AS c ORDER BY c.day, c.id LIMIT most);
  WITH gathered AS MATERIALIZED (
    SELECT l.label, l.day, c.type, c.sign, c.counts
    FROM session_metrics_changes AS c, LATERAL cells_of(c.day, c.user_id) AS l
    WHERE c.id = ANY (changed)
  ), parts AS (
    SELECT g.label, g.day, g.type, e.key, g.sign * e.value::bigint AS number
    FROM gathered AS g, jsonb_each_text(g.counts) AS e
    UNION ALL
    SELECT r.label, r.day, r.type, e.key, e.value::bigint
    FROM (SELECT DISTINCT label, day, type FROM gathered) AS c
    JOIN session_metrics_rollup AS r ON r.label = c.label AND r.day = c.day AND r.type = c.type,
      jsonb_each_text(r.counts) AS e
  ), sums AS (
    SELECT p.label, p.day, p.type, p.key, sum(p.number)::bigint AS number
    FROM parts AS p GROUP BY p.label, p.day, p.type, p.key
  )
  INSERT INTO session_metrics_rollup AS kept (label, day, type, sessions, counts)
  SELECT s.label, s.day, s.type, coalesce(sum(s.number) FILTER (WHERE s.key = 'sessions'), 0),
    coalesce(jsonb_object_agg(s.key, s.number) FILTER (WHERE s.number <> 0), '{}')
  FROM sums AS s GROUP BY s.label, s.day, s.type
  ON CONFLICT (label, day, type) DO UPDATE SET sessions = excluded.sessions, counts = excluded.counts;
  DELETE FROM session_metrics_rollup AS r
  USING session_metrics_changes AS c, LATERAL cells_of(c.day, c.user_id) AS l
  WHERE c.id = ANY (changed) AND c.sign < 0 AND r.sessions = 0
    AND r.label = l.label AND r.day = l.day AND r.type = c.type;
  DELETE FROM session_metrics_changes AS c WHERE c.id = ANY (changed);
  RETURN cardinality(changed);
END
$function$
