-- The text of a query as JSON, NULL where nobody can read it.
CREATE FUNCTION {schema}.query_facts(body text)
 RETURNS json
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
BEGIN
  RETURN CASE json_typeof(body::json) WHEN 'object' THEN body::json END;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
  RETURN NULL;
END
$function$
