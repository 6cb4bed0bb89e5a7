-- The first 13 characters of an instant in UTC, which is given in microseconds.
CREATE FUNCTION {schema}.hour_of(instant bigint)
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
  SELECT to_char(to_timestamp(floor(instant / 3600000000.0) * 3600) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24')
$function$
