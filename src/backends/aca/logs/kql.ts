/** Kusto queries with safely quoted values. Pure. */

/** A string literal with all content escaped. */
export function stringLiteral(text: string): string {
  const escaped = Array.from(text, (character) =>
    /[\w .:/-]/.test(character)
      ? character
      : [...Array(character.length).keys()]
          .map((at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`)
          .join(""),
  );
  return `"${escaped.join("")}"`;
}

/** The columns to read, by their names in the table. */
export const columns = { time: "_timestamp_d", line: "Log_s" } as const;

const table = "ContainerAppConsoleLogs_CL";

/** A part of the output of one execution's container. */
export interface OutputQuery {
  readonly execution: string;
  readonly container: string;
  readonly order: "asc" | "desc";
  /**
   * Seconds since 1970, including rows at that time if `inclusive`. A lower bound in ascending order, an upper bound in
   * descending order.
   */
  readonly bound?: { readonly time: number; readonly inclusive: boolean } | undefined;
  /** Maximum number of rows. */
  readonly most: number;
}

/** The query. Replicas are named after their execution. */
export function outputQuery({ execution, container, order, bound, most }: OutputQuery): string {
  const operator = `${order === "asc" ? ">" : "<"}${bound?.inclusive === true ? "=" : ""}`;
  return [
    table,
    `| where ContainerGroupName_s == ${stringLiteral(execution)} or ContainerGroupName_s startswith_cs ${stringLiteral(`${execution}-`)}`,
    `| where ContainerName_s == ${stringLiteral(container)}`,
    ...(bound === undefined ? [] : [`| where ${columns.time} ${operator} ${bound.time}`]),
    `| order by ${columns.time} ${order}`,
    `| take ${most}`,
    `| project ${columns.time}, ${columns.line}`,
  ].join("\n");
}
