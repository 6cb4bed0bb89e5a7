-- Where in the roll-up a session counts that was created on a day: among all of the day, of the month, and of its user.
CREATE FUNCTION {schema}.cells_of(of_day bigint, of_user text)
 RETURNS TABLE(label text, day bigint)
 LANGUAGE sql
 IMMUTABLE
AS $function$
  SELECT 'all', of_day
  UNION ALL
  SELECT 'month', date_trunc('month', DATE '1970-01-01' + of_day::integer)::date - DATE '1970-01-01'
  UNION ALL
  SELECT 'user:' || of_user, of_day WHERE of_user IS NOT NULL
$function$
