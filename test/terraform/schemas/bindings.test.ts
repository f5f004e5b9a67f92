import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { readBindings } from "./bindings.ts";

/** An entry of generated code that says how an argument is written. */
function entry(name: string, value: string, isBlock: boolean, type: string, storage: string): string {
  return `            ${name}: {
                value: ${value},
                isBlock: ${isBlock},
                type: "${type}",
                storageClassType: "${storage}",
            },\n`;
}

const source = `
function thingRuleToHclTerraform(struct) {
    const attrs = {
${entry("port", "cdktf.numberToHclTerraform(struct.port)", false, "simple", "number")}    };
}
class ThingRuleOutputReference extends cdktf.ComplexObject {
    get port() {
        return this.getNumberAttribute('port');
    }
    // state - computed: true, optional: false, required: false
    get state() {
        return this.getStringAttribute('state');
    }
}
class ThingSizeOutputReference extends cdktf.ComplexObject {
    get value() {
        return this.getNumberAttribute('value');
    }
}
class Thing extends cdktf.TerraformResource {
    constructor(scope, id, config) {
        this._size = new ThingSizeList(this, "size", false);
        this._tagsAll = new cdktf.StringMap(this, "tags_all");
        this._rule = new ThingRuleOutputReference(this, "rule");
    }
    get arn() {
        return this.getStringAttribute('arn');
    }
    get name() {
        return this.getStringAttribute('name');
    }
    get zones() {
        return cdktf.Fn.tolist(this.getListAttribute('zones'));
    }
    resetZones() {
        this._zones = undefined;
    }
    resetRule() {
        this._rule.internalValue = undefined;
    }
    synthesizeHclAttributes() {
        const attrs = {
${entry("name", "cdktf.stringToHclTerraform(this._name)", false, "simple", "string")}${entry(
  "zones",
  "cdktf.listMapperHcl(cdktf.stringToHclTerraform, false)(this._zones)",
  false,
  "set",
  "stringList",
)}${entry("rule", "thingRuleToHclTerraform(this._rule.internalValue)", true, "list", "ThingRuleList")}        };
    }
}
`;

describe("readBindings", () => {
  it("tells required, optional and computed attributes apart, with their types", () => {
    assert.deepEqual(readBindings(source).attributes, {
      name: { type: "string", mode: "required" },
      zones: { type: ["set", "string"], mode: "optional" },
      arn: { type: "string", mode: "computed" },
      size: { type: ["list", ["object", { value: "number" }]], mode: "computed" },
      tags_all: { type: ["map", "string"], mode: "computed" },
    });
  });

  it("reads blocks with their nesting", () => {
    assert.deepEqual(readBindings(source).blocks, {
      rule: {
        nesting: "list",
        min: 0,
        max: 1,
        attributes: {
          port: { type: "number", mode: "required" },
          state: { type: "string", mode: "computed" },
        },
        blocks: {},
      },
    });
  });

  it("fails rather than guesses", () => {
    assert.throws(
      () => readBindings(source.replace("getNumberAttribute('port')", "getRuneAttribute('port')")),
      {
        message: "unknown getter getRuneAttribute",
      },
    );
    assert.throws(() => readBindings("class Other {}"), /no resource, data source or provider/);
  });
});
