-- What is measured of a query: its type, how long it took, whether it failed, and in which hour it was asked. One that
-- nobody can read is of type unreadable, failed, and was asked in the hour that is given: `perdure.models.measures`.
CREATE FUNCTION {schema}.asked_of(body text, began text)
 RETURNS TABLE(query_type text, took_us bigint, failed boolean, hour text)
 LANGUAGE plpgsql
 STABLE
AS $function$
#variable_conflict use_column
DECLARE
  facts record;
BEGIN
  SELECT * INTO facts
  FROM json_to_record(body::json) AS f(query_type json, execution_time_ms json, error json, "timestamp" json);
  query_type := CASE json_typeof(facts.query_type) WHEN 'string' THEN nullif(facts.query_type #>> '{}', '') END;
  IF query_type IS NOT NULL THEN
    took_us := CASE
      WHEN json_typeof(facts.execution_time_ms) = 'number' AND left(facts.execution_time_ms #>> '{}', 1) <> '-'
      -- 2 ^ 43 is the most that counts.
      THEN least(floor(least((facts.execution_time_ms #>> '{}')::numeric, 8796093022208)::float8 * 1000 + 0.5), 8796093022208)::bigint
    END;
    failed := json_typeof(facts.error) <> 'null' AND facts.error IS NOT NULL;
    hour := CASE json_typeof(facts."timestamp") WHEN 'string'
      THEN substring(facts."timestamp" #>> '{}' FROM '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}')
    END;
    failed := coalesce(failed, false);
    hour := coalesce(hour, began);
    RETURN NEXT;
    RETURN;
  END IF;
  RETURN QUERY SELECT 'unreadable', NULL::bigint, true, began;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN QUERY SELECT 'unreadable', NULL::bigint, true, began;
END
$function$
