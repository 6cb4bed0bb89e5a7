-- Apply changes of different sessions, in the order of their ids: `perdure.changes`, `check` and `advance`.
--
-- `changes` is a list of objects (below), `bodies` holds the queries of all of them, `entries` and `moving` say whether
-- any of them sets or unsets a key, or may touch what sessions are found by. Each change is applied, or found not
-- plainly applicable: then its answer has a `freed` that is not NULL and what is to be known to say why, all NULL where
-- there is no session. Called once in a transaction: rows that this transaction has written are those it applied to.
--
-- Rows are looked up one by one (LATERAL, OFFSET 0) here and in the other functions: a plan that was made while a table
-- had few rows, and goes through all of them, would be kept when there are many.
CREATE FUNCTION {schema}.apply_changes(ids text[], changes json, bodies text[], entries boolean, moving boolean)
 RETURNS TABLE(place integer, freed bigint, user_id text, expires_at bigint, last_accessed_at bigint, archived_at bigint, version bigint, total_queries bigint, cache_hits bigint, first_query_at bigint, last_query_at bigint, state_bytes bigint, history_bytes bigint, writers bytea)
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
DECLARE
  held uuid[];
  applied bigint;
  before session_labels[];
  gone record;
BEGIN
  -- First, so that all that is looked at afterwards is the present, and cannot change until the end. A session that
  -- comes into being after this is left alone: its lock would come out of turn.
  held := ARRAY(SELECT id FROM sessions WHERE id = ANY (ids::uuid[]) ORDER BY id FOR NO KEY UPDATE);
  IF moving THEN
    before := label_rows(held);
  END IF;

  RETURN QUERY
  WITH c AS MATERIALIZED (
    SELECT c.*, CASE WHEN c.touched IS NULL THEN 0 ELSE weight_of(c.id, c.touched) END AS freed
    FROM json_to_recordset(changes) AS c(
      place integer, id uuid, writer uuid, number bigint, again boolean, head text, at bigint,
      if_version bigint, owner text, max_queries bigint, max_state_bytes bigint,
      first integer, queries integer, cache_hits integer, history_bytes bigint, first_at bigint, last_at bigint,
      touched json, sets boolean, set_bytes bigint,
      expires_at bigint, archive boolean,
      add_assets json, remove_assets json, add_tags json, remove_tags json
    )
  ), moved AS (
    UPDATE sessions AS s SET
      version = s.version + 1,
      head = c.head,
      last_accessed_at = greatest(s.last_accessed_at, c.at),
      assets = CASE
        WHEN c.add_assets IS NULL AND c.remove_assets IS NULL THEN s.assets
        ELSE relabelled(s.assets, c.add_assets, c.remove_assets)
      END,
      tags = CASE
        WHEN c.add_tags IS NULL AND c.remove_tags IS NULL THEN s.tags
        ELSE relabelled(s.tags, c.add_tags, c.remove_tags)
      END,
      expires_at = greatest(s.expires_at, c.expires_at),
      archived_at = CASE
        WHEN c.archive THEN c.at
        WHEN c.expires_at >= s.expires_at THEN NULL
        ELSE s.archived_at
      END,
      due_at = CASE -- a lease stays one, unless the expiry grows or the session is revived
        WHEN c.archive THEN s.due_at
        WHEN c.expires_at > s.expires_at OR c.expires_at = s.expires_at AND s.archived_at IS NOT NULL
        THEN c.expires_at
        ELSE s.due_at
      END,
      total_queries = s.total_queries + c.queries,
      cache_hits = s.cache_hits + c.cache_hits,
      first_query_at = least(s.first_query_at, c.first_at),
      last_query_at = greatest(s.last_query_at, c.last_at),
      state_bytes = s.state_bytes + coalesce(c.set_bytes, 0) - c.freed,
      history_bytes = s.history_bytes + c.history_bytes,
      writers = uuid_send(c.writer) || int8send(c.number)
        || int8send(s.version + 1) || int8send(s.total_queries + c.queries)
        || CASE remembered_at(s.writers, uuid_send(c.writer))
          WHEN 0 THEN substring(s.writers FROM 1 FOR 31 * 40)
          ELSE overlay(s.writers PLACING '' FROM remembered_at(s.writers, uuid_send(c.writer)) FOR 40)
        END
    FROM c
    -- All in one CASE: a condition that an index could answer would have all that the index holds looked at.
    WHERE s.id = c.id AND s.id = ANY (held) AND CASE WHEN
      CASE remembered_at(s.writers, uuid_send(c.writer))
        WHEN 0 THEN c.again IS NOT TRUE OR length(s.writers) < 32 * 40
        ELSE int8send(c.number)
          > substring(s.writers FROM remembered_at(s.writers, uuid_send(c.writer)) + 16 FOR 8)
      END
      AND (c.owner IS NULL OR s.user_id = c.owner)
      AND CASE -- revives it
        WHEN c.at < c.expires_at AND c.expires_at >= s.expires_at THEN s.archived_at IS NULL OR NOT c.archive
        ELSE s.archived_at IS NULL AND (s.expires_at > c.at OR c.archive)
      END
      AND (c.if_version IS NULL OR s.version = c.if_version)
      AND (c.max_queries IS NULL OR c.queries = 0 OR s.total_queries + c.queries <= c.max_queries)
      AND (c.max_state_bytes IS NULL OR c.sets IS NOT TRUE OR s.state_bytes - c.freed + c.set_bytes <= c.max_state_bytes)
    THEN true END
    RETURNING c.place, s.id, s.version, s.total_queries, c.first, c.queries
  ), added AS (
    INSERT INTO session_queries (session_id, position, body)
    SELECT m.id, m.total_queries - m.queries + n, bodies[m.first + n]
    FROM moved AS m, generate_series(1, m.queries) AS n
  )
  SELECT m.place, NULL::bigint, NULL::text, NULL::bigint, NULL::bigint, NULL::bigint, m.version, m.total_queries,
    NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bytea
  FROM moved AS m;
  GET DIAGNOSTICS applied = ROW_COUNT;

  IF entries AND applied > 0 THEN
    FOR gone IN
      SELECT c.id, name ->> 0 AS section, name ->> 1 AS key
      FROM json_to_recordset(changes) AS c(id uuid, unset_entries json),
        LATERAL (SELECT xmin FROM sessions WHERE sessions.id = c.id OFFSET 0) AS s,
        json_array_elements(c.unset_entries) AS name
      WHERE s.xmin = pg_current_xact_id()::xid
    LOOP
      DELETE FROM session_entries WHERE session_id = gone.id AND section = gone.section AND key = gone.key;
    END LOOP;
    INSERT INTO session_entries (session_id, section, key, value)
    SELECT c.id, entry ->> 0, entry ->> 1, entry ->> 2
    FROM json_to_recordset(changes) AS c(id uuid, set_entries json),
      LATERAL (SELECT xmin FROM sessions WHERE sessions.id = c.id OFFSET 0) AS s,
      json_array_elements(c.set_entries) AS entry
    WHERE s.xmin = pg_current_xact_id()::xid
    ON CONFLICT (session_id, section, key) DO UPDATE SET value = excluded.value;
  END IF;
  IF moving AND applied > 0 THEN
    PERFORM relabel(before, label_rows(held));
    PERFORM put_metrics(array_agg(c.id), NULL)
    FROM json_to_recordset(changes) AS c(id uuid, archive boolean)
    WHERE c.archive AND c.id = ANY (held) HAVING count(*) > 0;
  END IF;
  IF applied < cardinality(ids) THEN
    RETURN QUERY
    SELECT c.place, CASE WHEN c.touched IS NULL THEN 0 ELSE weight_of(c.id, c.touched) END,
      s.user_id, s.expires_at, s.last_accessed_at, s.archived_at, s.version, s.total_queries, s.cache_hits,
      s.first_query_at, s.last_query_at, s.state_bytes, s.history_bytes, s.writers
    FROM json_to_recordset(changes) AS c(place integer, id uuid, touched json)
    LEFT JOIN LATERAL (SELECT *, xmin FROM sessions WHERE sessions.id = c.id OFFSET 0) AS s ON s.id = ANY (held)
    WHERE s.xmin IS NULL OR s.xmin <> pg_current_xact_id()::xid;
  END IF;
END
$function$
