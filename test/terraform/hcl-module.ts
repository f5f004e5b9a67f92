/** Terraform modules as data: what their files say, before Terraform evaluates anything. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "@cdktf/hcl2json";

import { checkout } from "../support/daemon.ts";

/** A block's attributes and blocks. Expressions are texts `${…}`; nested blocks are lists. */
export type HclBlock = Readonly<Record<string, unknown>>;

/** Text of a module's files by name. */
export type Sources = Readonly<Record<string, string>>;

type Labelled = Readonly<Record<string, Readonly<Record<string, readonly HclBlock[]>>>>;

interface ParsedFile {
  readonly resource?: Labelled;
  readonly data?: Labelled;
  readonly variable?: Readonly<Record<string, readonly HclBlock[]>>;
  readonly output?: Readonly<Record<string, readonly HclBlock[]>>;
  readonly locals?: readonly HclBlock[];
  readonly terraform?: readonly HclBlock[];
}

/** A resource or data source of a module. */
export interface Declaration {
  readonly type: string;
  readonly name: string;
  readonly body: HclBlock;
}

/** The directory of a module or environment. */
export function terraformPath(...parts: string[]): string {
  return join(checkout, "terraform", ...parts);
}

/** The `.tf` files of `terraform/<path>`. */
export function readSources(path: string): Sources {
  const directory = terraformPath(path);
  return Object.fromEntries(
    globSync("*.tf", { cwd: directory })
      .sort()
      .map((file) => [file, readFileSync(join(directory, file), "utf8")]),
  );
}

const parsed = new Map<string, Promise<ParsedFile>>();

/** A parsed module. */
export class HclModule {
  readonly sources: Sources;
  readonly #files: readonly ParsedFile[];

  private constructor(sources: Sources, files: readonly ParsedFile[]) {
    this.sources = sources;
    this.#files = files;
  }

  /** Parses a module; the same text is parsed once. */
  static async parse(sources: Sources): Promise<HclModule> {
    const files = Object.entries(sources).map(([name, text]) => {
      const file = parsed.get(text) ?? (parse(name, text) as Promise<ParsedFile>);
      parsed.set(text, file);
      return file;
    });
    return new HclModule(sources, await Promise.all(files));
  }

  get resources(): Declaration[] {
    return this.#files.flatMap(({ resource }) => declarationsOf(resource));
  }

  get dataSources(): Declaration[] {
    return this.#files.flatMap(({ data }) => declarationsOf(data));
  }

  get variables(): ReadonlyMap<string, HclBlock> {
    return new Map(this.#files.flatMap(({ variable }) => labelled(variable)));
  }

  get outputs(): ReadonlyMap<string, HclBlock> {
    return new Map(this.#files.flatMap(({ output }) => labelled(output)));
  }

  get settings(): HclBlock {
    return Object.assign({}, ...this.#files.flatMap(({ terraform }) => terraform ?? [])) as HclBlock;
  }

  /** The body of `resource "<type>" "<name>"`. */
  resource(type: string, name = "this"): HclBlock {
    return find(this.resources, type, name);
  }

  /** The body of `data "<type>" "<name>"`. */
  data(type: string, name: string): HclBlock {
    return find(this.dataSources, type, name);
  }

  resourcesOf(type: string): Declaration[] {
    return this.resources.filter((each) => each.type === type);
  }

  variable(name: string): HclBlock {
    return this.variables.get(name) ?? missing(`variable ${name}`);
  }

  output(name: string): HclBlock {
    return this.outputs.get(name) ?? missing(`output ${name}`);
  }

  /** The value of `locals { <name> = … }`. */
  local(name: string): unknown {
    for (const { locals } of this.#files) {
      for (const block of locals ?? []) {
        if (name in block) {
          return block[name];
        }
      }
    }
    return missing(`local ${name}`);
  }
}

/** An expression without `${…}` around it, its white space made single. */
export function expression(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text
    .replace(/^\$\{(.*)\}$/s, "$1")
    .replaceAll(/\s+/g, " ")
    .trim();
}

/** The nested blocks of one name. */
export function blocks(body: HclBlock, name: string): HclBlock[] {
  const value = body[name];
  return value === undefined ? [] : Array.isArray(value) ? (value as HclBlock[]) : [value as HclBlock];
}

/** The nested blocks of one name, those of `dynamic` blocks included. */
export function allBlocks(body: HclBlock, name: string): HclBlock[] {
  const dynamic = blocks(body, "dynamic").flatMap((each) => blocks(each, name));
  return [...blocks(body, name), ...dynamic.flatMap((each) => blocks(each, "content"))];
}

function declarationsOf(labelledBlocks: Labelled = {}): Declaration[] {
  return Object.entries(labelledBlocks).flatMap(([type, names]) =>
    Object.entries(names).flatMap(([name, bodies]) => bodies.map((body) => ({ type, name, body }))),
  );
}

function labelled(named: Readonly<Record<string, readonly HclBlock[]>> = {}): [string, HclBlock][] {
  return Object.entries(named).flatMap(([name, bodies]) =>
    bodies.map((body): [string, HclBlock] => [name, body]),
  );
}

function find(declarations: readonly Declaration[], type: string, name: string): HclBlock {
  return (
    declarations.find((each) => each.type === type && each.name === name)?.body ?? missing(`${type}.${name}`)
  );
}

function missing(what: string): never {
  throw new Error(`the module has no ${what}`);
}
