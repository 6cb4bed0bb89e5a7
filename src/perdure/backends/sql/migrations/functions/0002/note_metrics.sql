-- Note which rows of `session_metrics` came and went, for the roll-up.
CREATE FUNCTION {schema}.note_metrics()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO {schema_text}, 'pg_temp'
AS $function$
BEGIN
  IF TG_OP <> 'INSERT' THEN
    INSERT INTO session_metrics_changes (sign, day, type, user_id, counts)
    SELECT -1, day, type, user_id, counts FROM went;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO session_metrics_changes (sign, day, type, user_id, counts)
    SELECT 1, day, type, user_id, counts FROM came;
  END IF;
  RETURN NULL;
END
$function$
