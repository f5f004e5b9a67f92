/**
 * Renews the schemas that the tests' provider serves: `npx tsx test/terraform/schemas/extract.ts`. Fetches the bindings
 * with `npm pack` into a cache outside the checkout; nothing of them is a dependency of this project.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { type AttributeSchema, type BlockSchema, readBindings } from "./bindings.ts";
import { newerThan } from "./newer.ts";
import { floors, type ProviderSelection, providers } from "./selection.ts";

const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "sockerless/cdktf");
const fixtures = join(import.meta.dirname, "../provider/fixtures");

/** Schemas by provider. */
const schemas = new Map<string, ReturnType<typeof schemaOf>>();
mkdirSync(fixtures, { recursive: true });
for (const provider of providers) {
  const schema = schemaOf(provider);
  schemas.set(provider.name, schema);
  writeFileSync(join(fixtures, `${provider.name}.json`), `${JSON.stringify(schema, undefined, 1)}\n`);
  console.log(
    `${provider.name} ${provider.version}: ${provider.resources.length} resources, ${provider.dataSources.length} data sources`,
  );
}
const newer = Object.entries(floors).map(([module, floor]) => {
  const provider = providers.find(({ name }) => name === floor.name);
  const now = schemas.get(floor.name);
  if (provider === undefined || now === undefined) {
    throw new Error(`there is no provider ${floor.name}`);
  }
  return [module, newerThan(schemaOf({ ...provider, ...floor }), now)];
});
writeFileSync(
  join(import.meta.dirname, "newer.json"),
  `${JSON.stringify(Object.fromEntries(newer), undefined, 2)}\n`,
);

function schemaOf(provider: ProviderSelection) {
  const library = join(fetchPackage(provider.package), "package/lib");
  const readAll = (types: readonly string[], folder: (type: string) => string): Record<string, BlockSchema> =>
    Object.fromEntries(
      [...types]
        .sort()
        .filter((type) => existsSync(join(library, folder(type)))) // An old provider may not have it yet.
        .map((type) => [type, read(library, folder(type), provider, type)]),
    );
  return {
    source: `registry.terraform.io/hashicorp/${provider.name}`,
    version: provider.version,
    extractedFrom: provider.package,
    config: read(library, "provider", provider, provider.name),
    resources: readAll(provider.resources, (type) => camelless(type, provider.name)),
    dataSources: readAll(
      provider.dataSources,
      (type) => `data-${provider.name}-${camelless(type, provider.name)}`,
    ),
  };
}

function read(library: string, folder: string, provider: ProviderSelection, type: string): BlockSchema {
  const schema = readBindings(readFileSync(join(library, folder, "index.js"), "utf8"));
  const attributes: Record<string, AttributeSchema> = { ...schema.attributes };
  for (const name of [...(provider.alsoComputed[type] ?? []), "id", "tags_all"]) {
    const attribute = attributes[name];
    if (attribute?.mode === "optional") {
      attributes[name] = { ...attribute, mode: "optional+computed" };
    }
  }
  for (const name of provider.sensitive[type] ?? []) {
    const attribute = attributes[name];
    if (attribute === undefined) {
      throw new Error(`${type} has no ${name}`);
    }
    attributes[name] = { ...attribute, sensitive: true };
  }
  return { ...schema, attributes };
}

/** The unpacked package of `name@version`. */
function fetchPackage(specifier: string): string {
  const directory = join(cache, specifier.replaceAll(/[@/]+/g, "-").replace(/^-/, ""));
  if (!existsSync(join(directory, "package/package.json"))) {
    mkdirSync(directory, { recursive: true });
    const archive = execFileSync("npm", ["pack", "--silent", specifier], {
      cwd: directory,
      encoding: "utf8",
    });
    execFileSync("tar", ["-xzf", archive.trim(), "package/package.json", "package/lib"], { cwd: directory });
  }
  return directory;
}

/** `aws_ecs_cluster` as `ecs-cluster`. */
function camelless(type: string, provider: string): string {
  return type.slice(provider.length + 1).replaceAll("_", "-");
}
