-- Remove a session and leave a tombstone until `forget_at`; true if there was one. Nothing changes where it is not
-- `owner`'s, which NULL stands for anybody. What it counts goes too, also where retention has removed the session.
CREATE FUNCTION {schema}.delete_session(session uuid, forget_at bigint, owner text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_variable
DECLARE
  owned_by text;
  existed boolean;
BEGIN
  LOOP
    SELECT s.user_id INTO owned_by FROM sessions AS s WHERE s.id = session FOR UPDATE;
    existed := FOUND;
    EXIT WHEN existed;
    -- There is none: a row holds the slot until the tombstone is there, so that nobody fills it in between.
    INSERT INTO sessions (
      id, type, assets, tags, created_at, expires_at, last_accessed_at, version, head,
      total_queries, cache_hits, state_bytes, history_bytes, writers
    )
    VALUES (session, '', '[]', '[]', 0, 0, 0, 0, '', 0, 0, 0, 0, '')
    ON CONFLICT (id) DO NOTHING;
    EXIT WHEN FOUND;
  END LOOP;
  IF existed THEN
    IF owner IS NOT NULL AND owned_by IS DISTINCT FROM owner THEN
      RETURN false;
    END IF;
    PERFORM remove_sessions(ARRAY[session]);
    DELETE FROM session_metrics AS m WHERE m.session_id = session;
  ELSE
    DELETE FROM session_metrics AS m WHERE m.session_id = session AND (owner IS NULL OR m.user_id = owner);
    DELETE FROM session_tickets AS t WHERE t.session_id = session;
    DELETE FROM sessions AS s WHERE s.id = session;
  END IF;
  INSERT INTO session_tombstones AS t VALUES (session, forget_at)
  ON CONFLICT (session_id) DO UPDATE SET forget_at = greatest(t.forget_at, excluded.forget_at);
  RETURN existed;
END
$function$
