-- Forget a copy, without a tombstone, if it still is that version with that head; true if so. Voids its ticket.
CREATE FUNCTION {schema}.evict_session(session uuid, at_version bigint, at_head text)
 RETURNS boolean
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  same boolean;
BEGIN
  SELECT s.version = at_version AND s.head = at_head INTO same FROM sessions AS s WHERE s.id = session FOR UPDATE;
  IF same THEN
    PERFORM remove_sessions(ARRAY[session]);
    DELETE FROM session_metrics WHERE session_id = session;
    RETURN true;
  END IF;
  DELETE FROM session_tickets WHERE session_id = session;
  RETURN false;
END
$function$
