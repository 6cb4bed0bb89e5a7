-- The least number with the same five leading binary digits: `perdure.models.measures.bucket_of`.
CREATE FUNCTION {schema}.bucket_of(value bigint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE
AS $function$
  SELECT CASE
    WHEN value < 32 THEN value
    ELSE value >> length(ltrim(value::bit(64)::text, '0')) - 5 << length(ltrim(value::bit(64)::text, '0')) - 5
  END
$function$
