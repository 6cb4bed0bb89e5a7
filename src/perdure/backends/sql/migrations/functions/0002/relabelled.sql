-- The names with some added at the end and some removed: `perdure.changes.relabelled`.
CREATE FUNCTION {schema}.relabelled(present jsonb, added json, removed json)
 RETURNS jsonb
 LANGUAGE plpgsql
 IMMUTABLE
AS $function$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_agg(name ORDER BY place), '[]')
    FROM (
      SELECT name, min(place) AS place
      FROM (
        SELECT name, place FROM jsonb_array_elements_text(present) WITH ORDINALITY AS p(name, place)
        UNION ALL
        SELECT name, place + jsonb_array_length(present)
        FROM json_array_elements_text(added) WITH ORDINALITY AS a(name, place)
      ) AS both_of_them
      WHERE name NOT IN (SELECT json_array_elements_text(removed))
      GROUP BY name
    ) AS named
  );
END
$function$
