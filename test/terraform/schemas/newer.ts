/** Names that a provider has and an older one has not. */
import type { BlockSchema } from "./bindings.ts";

/** Schemas of a provider's resources and data sources. */
export interface Schemas {
  readonly resources: Readonly<Record<string, BlockSchema>>;
  readonly dataSources: Readonly<Record<string, BlockSchema>>;
}

/** @returns `resource.<type>`, `data.<type>.<attribute>`, `resource.<type>.<block>.<attribute>` … */
export function newerThan(before: Schemas, now: Schemas): readonly string[] {
  return (["resources", "dataSources"] as const).flatMap((kind) =>
    Object.entries(now[kind]).flatMap(([type, schema]) => {
      const path = `${kind === "resources" ? "resource" : "data"}.${type}`;
      const old = before[kind][type];
      return old === undefined ? [path] : newIn(path, old, schema);
    }),
  );
}

function newIn(path: string, before: BlockSchema, now: BlockSchema): readonly string[] {
  const attributes = Object.keys(now.attributes).filter((name) => !(name in before.attributes));
  return [
    ...attributes.map((name) => `${path}.${name}`),
    ...Object.entries(now.blocks).flatMap(([name, block]) => {
      const old = before.blocks[name];
      return old === undefined ? [`${path}.${name}`] : newIn(`${path}.${name}`, old, block);
    }),
  ];
}
