/**
 * Reading a provider's schema out of its CDKTF bindings. The bindings are generated from what the provider's own
 * binary answers to `terraform providers schema`, and are the only form in which that schema is on npm. Their text is
 * regular, so it is read as text: running them would need the whole of cdktf.
 */

/** A Terraform type as in `terraform providers schema -json`. */
export type AttributeType =
  | "string"
  | "number"
  | "bool"
  | "dynamic"
  | readonly ["list" | "set" | "map", AttributeType]
  | readonly ["object", Readonly<Record<string, AttributeType>>];

/**
 * Setter of an attribute: the configuration (`required`, `optional`), the provider (`computed`), or either.
 */
export type AttributeMode = "required" | "optional" | "computed" | "optional+computed";

export interface AttributeSchema {
  readonly type: AttributeType;
  readonly mode: AttributeMode;
  readonly sensitive?: true;
}

/** A nested block; `max` 0 means any number. */
export interface NestedBlockSchema extends BlockSchema {
  readonly nesting: "single" | "list" | "set";
  readonly min: number;
  readonly max: number;
}

export interface BlockSchema {
  readonly attributes: Readonly<Record<string, AttributeSchema>>;
  readonly blocks: Readonly<Record<string, NestedBlockSchema>>;
}

/** A settable name in the bindings: an entry of `synthesizeHclAttributes` or of `<struct>ToHclTerraform`. */
interface Entry {
  readonly isBlock: boolean;
  readonly type: string;
  readonly storageClass: string;
  /** True if one object stands for the block, not a list of them. */
  readonly isOne: boolean;
}

const simpleTypes: Readonly<Record<string, AttributeType>> = {
  string: "string",
  number: "number",
  boolean: "bool",
  any: "dynamic",
};

/** Types by the getter that the bindings use. */
const getterTypes: Readonly<Record<string, AttributeType>> = {
  getStringAttribute: "string",
  getNumberAttribute: "number",
  getBooleanAttribute: "bool",
  getAnyMapAttribute: ["map", "dynamic"],
  getStringMapAttribute: ["map", "string"],
  getNumberMapAttribute: ["map", "number"],
  getBooleanMapAttribute: ["map", "bool"],
  getListAttribute: ["list", "string"],
  getNumberListAttribute: ["list", "number"],
};

/**
 * The schema of a resource, a data source or a provider.
 *
 * @param source text of the bindings' `lib/<name>/index.js`
 */
export function readBindings(source: string): BlockSchema {
  const text = source.replaceAll(/^class /gm, "\u0000class ");
  const classes = new Map<string, string>();
  for (const part of text.split("\u0000").slice(1)) {
    classes.set(/^class (\w+)/.exec(part)?.[1] ?? "", part);
  }
  const top = [...classes.values()].find((body) =>
    / extends cdktf\.Terraform(Resource|DataSource|Provider) /.test(body),
  );
  if (top === undefined) {
    throw new Error("the bindings hold no resource, data source or provider");
  }
  const isProvider = / extends cdktf\.TerraformProvider /.test(top);
  const hcl = top.slice(top.indexOf("synthesizeHclAttributes()"));
  return new BlockReader(source, classes).read(top, hcl, isProvider);
}

class BlockReader {
  readonly #source: string;
  readonly #classes: ReadonlyMap<string, string>;

  constructor(source: string, classes: ReadonlyMap<string, string>) {
    this.#source = source;
    this.#classes = classes;
  }

  read(body: string | undefined, hcl: string, isProvider: boolean): BlockSchema {
    const attributes: Record<string, AttributeSchema> = {};
    const blocks: Record<string, NestedBlockSchema> = {};
    for (const [name, entry] of entriesOf(hcl)) {
      if (isProvider && name === "alias") {
        continue; // Terraform's own, not the provider's.
      }
      const mode = body !== undefined && isRequired(body, name) ? "required" : "optional";
      if (entry.isBlock) {
        blocks[name] = this.#readBlock(name, entry, mode);
      } else {
        attributes[name] = { type: this.#settableType(entry), mode };
      }
    }
    for (const [name, type] of this.#gettersOf(body ?? "")) {
      if (!(name in attributes || name in blocks)) {
        attributes[name] = { type, mode: "computed" };
      }
    }
    return { attributes, blocks };
  }

  #readBlock(name: string, entry: Entry, mode: AttributeMode): NestedBlockSchema {
    const struct = entry.storageClass.replace(/List$/, "");
    // A provider's own blocks are never read, so they have no class, and nothing in them is known to be required.
    const body = this.#classes.get(`${struct}OutputReference`);
    const start = this.#source.indexOf(`function ${lowerFirst(struct)}ToHclTerraform(`);
    if (start < 0) {
      throw new Error(`no struct for the block ${name}`);
    }
    const hcl = this.#source.slice(start, this.#source.indexOf("\n}\n", start));
    return {
      nesting: entry.type === "struct" ? "single" : entry.type === "set" ? "set" : "list",
      min: mode === "required" ? 1 : 0,
      max: entry.isOne ? 1 : 0,
      ...this.read(body, hcl, false),
    };
  }

  /** Getters and their types, with the provider's own names. */
  *#gettersOf(body: string): Iterable<readonly [string, AttributeType]> {
    for (const [, text = ""] of body.matchAll(/^ {4}get \w+\(\) \{\n([^}]*)\n {4}\}/gm)) {
      const simple = /this\.(get\w+Attribute)\('([^']+)'\)/.exec(text);
      if (simple?.[1] !== undefined && simple[2] !== undefined) {
        const type = getterTypes[simple[1]];
        if (type === undefined) {
          throw new Error(`unknown getter ${simple[1]}`);
        }
        const isSet = text.includes("Fn.tolist(");
        yield [simple[2], isSet && Array.isArray(type) ? ["set", type[1] as AttributeType] : type];
        continue;
      }
      const interpolated = /interpolationForAttribute\('([^']+)'\)/.exec(text);
      if (interpolated?.[1] !== undefined) {
        yield [interpolated[1], "dynamic"];
      }
    }
    for (const [, struct = "", name = "", isSet] of body.matchAll(
      /new (\w+)List\(this, "([^"]+)", (true|false)\)/g,
    )) {
      yield [name, [isSet === "true" ? "set" : "list", this.#objectType(struct)]];
    }
    for (const [, struct = "", name = ""] of body.matchAll(/new (\w+)OutputReference\(this, "([^"]+)"\)/g)) {
      yield [name, this.#objectType(struct)];
    }
    for (const [, element = "", name = ""] of body.matchAll(/new cdktf\.(\w+)Map\(this, "([^"]+)"\)/g)) {
      yield [name, ["map", simpleTypes[element.toLowerCase()] ?? fail(element)]];
    }
  }

  #objectType(struct: string): AttributeType {
    const fields: Record<string, AttributeType> = {};
    for (const [name, type] of this.#gettersOf(this.#classOf(`${struct}OutputReference`))) {
      fields[name] = type;
    }
    return ["object", fields];
  }

  #settableType({ type, storageClass }: Entry): AttributeType {
    if (type === "simple") {
      return simpleTypes[storageClass] ?? fail(storageClass);
    }
    const element = /^(string|number|boolean|any)(List|Map)$/.exec(storageClass);
    if (element?.[1] !== undefined && (type === "list" || type === "set" || type === "map")) {
      return [type, simpleTypes[element[1]] ?? fail(storageClass)];
    }
    const struct = this.#objectType(storageClass.replace(/List$/, ""));
    return type === "list" || type === "set" ? [type, struct] : struct;
  }

  #classOf(name: string): string {
    return this.#classes.get(name) ?? fail(name);
  }
}

function fail(what: string): never {
  throw new Error(`the bindings say something new: ${what}`);
}

function* entriesOf(hcl: string): Iterable<readonly [string, Entry]> {
  const pattern =
    /^ +(\w+): \{\n +value: ([^\n]*)\n +isBlock: (true|false),\n +type: "(\w+)",\n +storageClassType: "(\w+)",/gm;
  for (const [, name = "", value = "", isBlock, type = "", storageClass = ""] of hcl.matchAll(pattern)) {
    yield [
      name,
      { isBlock: isBlock === "true", type, storageClass, isOne: !value.includes("listMapperHcl") },
    ];
  }
}

/** True if a setting may not be left out: what may be left out can be reset. */
function isRequired(body: string, name: string): boolean {
  const camel = name.replaceAll(/_+([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return !new RegExp(`^ {4}reset${camel[0]?.toUpperCase()}${camel.slice(1)}\\(\\)`, "m").test(body);
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1);
}
