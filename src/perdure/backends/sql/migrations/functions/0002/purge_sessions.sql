-- Remove up to `most` sessions that were archived before `before`, the longest archived first, none but `among` where
-- that is given; and what has served its time by `instant`: tombstones, and tickets taken before `abandoned`.
CREATE FUNCTION {schema}.purge_sessions(before bigint, most integer, among text[], instant bigint, abandoned bigint)
 RETURNS TABLE(id uuid, more boolean)
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
  chosen uuid[];
  held uuid[];
BEGIN
  IF among IS NULL THEN
    chosen := ARRAY(
      SELECT id FROM sessions WHERE archived_at < before ORDER BY archived_at, id LIMIT most + 1
    );
  ELSE
    chosen := ARRAY(
      SELECT id FROM sessions WHERE id = ANY (among::uuid[]) AND CASE WHEN archived_at < before THEN true END
      ORDER BY archived_at, id LIMIT most + 1
    );
  END IF;
  held := ARRAY(
    SELECT id FROM sessions WHERE id = ANY (chosen[:most]) AND CASE WHEN archived_at < before THEN true END
    ORDER BY id FOR UPDATE
  );
  PERFORM remove_sessions(held);
  -- Last, and without waiting for anybody, so that no order of locks matters.
  DELETE FROM session_tombstones WHERE session_id = ANY (ARRAY(
    SELECT session_id FROM session_tombstones WHERE forget_at <= instant FOR UPDATE SKIP LOCKED
  ));
  DELETE FROM session_tickets WHERE session_id = ANY (ARRAY(
    SELECT session_id FROM session_tickets WHERE taken_at <= abandoned FOR UPDATE SKIP LOCKED
  ));
  RETURN QUERY
  SELECT c.id, cardinality(chosen) > most
  FROM unnest(chosen[:most]) WITH ORDINALITY AS c(id, place)
  WHERE c.id = ANY (held) ORDER BY c.place;
END
$function$
