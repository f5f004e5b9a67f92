/** Lists in pages, which `nextLink` chains. */
import type { ArmAnswer, ArmCall } from "./provider.ts";

/** The parameter of the query that names the page. */
export const pageParameter = "$skipToken";

/** The page of a list that a call asks for. */
export function pageOf(
  { query, url, apiVersion }: ArmCall,
  values: readonly object[],
  size: number,
): ArmAnswer {
  const start = Number(query.get(pageParameter) ?? 0);
  const next = start + size;
  const link = `${url}?api-version=${apiVersion}&${pageParameter}=${next}`;
  return {
    status: 200,
    body: { value: values.slice(start, next), ...(next < values.length && { nextLink: link }) },
  };
}
