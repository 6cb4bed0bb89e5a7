-- Where the last change of a writer is remembered among the records of 40 bytes, from 1; 0 where it is not.
CREATE FUNCTION {schema}.remembered_at(writers bytea, writer bytea)
 RETURNS integer
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
DECLARE
  place integer := position(writer IN writers);
  further integer;
BEGIN
  WHILE place > 0 AND place % 40 <> 1 LOOP -- bytes of two records that only look like it
    further := position(writer IN substring(writers FROM place + 1));
    place := CASE further WHEN 0 THEN 0 ELSE place + further END;
  END LOOP;
  RETURN place;
END
$function$
