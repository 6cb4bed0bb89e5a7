-- Lease up to `most` sessions that are due at `instant` until `until`, the longest due first; no more than `max_bytes`
-- of content, but at least one. Claims come one after the other, so that no two are about the same sessions. One row of
-- NULL says that those which were due are not any more, and others may be: to be asked again.
CREATE FUNCTION {schema}.claim_sessions(instant bigint, until bigint, most integer, max_bytes bigint)
 RETURNS TABLE(id uuid)
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
  PERFORM pg_advisory_xact_lock(hashtext('perdure.claim'), hashtext(current_schema()));
  chosen := ARRAY(
    SELECT id
    FROM (
      SELECT id, due_at, sum(weight) OVER oldest AS so_far, row_number() OVER oldest AS place
      FROM (
        SELECT id, due_at, state_bytes + history_bytes AS weight
        FROM sessions WHERE due_at <= instant ORDER BY due_at, id LIMIT most
      ) AS due
      WINDOW oldest AS (ORDER BY due_at, id ROWS UNBOUNDED PRECEDING)
    ) AS weighed
    WHERE place = 1 OR so_far <= max_bytes
    ORDER BY place
  );
  IF cardinality(chosen) = 0 THEN
    RETURN;
  END IF;
  -- Writers hold several rows at once, in the order of ids: so must this.
  held := ARRAY(SELECT id FROM sessions WHERE id = ANY (chosen) ORDER BY id FOR NO KEY UPDATE);
  RETURN QUERY
  WITH leased AS (
    UPDATE sessions SET due_at = until WHERE id = ANY (held) AND due_at <= instant RETURNING id
  )
  SELECT c.id FROM unnest(chosen) WITH ORDINALITY AS c(id, place) JOIN leased USING (id) ORDER BY c.place;
  IF NOT FOUND THEN -- others moved them all while this waited
    RETURN NEXT;
  END IF;
END
$function$
