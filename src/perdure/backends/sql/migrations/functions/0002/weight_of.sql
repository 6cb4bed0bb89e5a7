-- What those of a session's entries weigh that are named as [section, key].
CREATE FUNCTION {schema}.weight_of(session uuid, named json)
 RETURNS bigint
 LANGUAGE plpgsql
 STABLE
 SET search_path TO {schema_text}, 'pg_temp'
 SET enable_seqscan TO 'off'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
  -- A look-up for each name: a join may read all that the session has.
  RETURN (
    SELECT coalesce(sum((
      SELECT octet_length(e.key) + octet_length(e.value)
      FROM session_entries AS e
      WHERE e.session_id = session AND e.section = name ->> 0 AND e.key = name ->> 1
    )), 0)::bigint
    FROM json_array_elements(named) AS name
  );
END
$function$
