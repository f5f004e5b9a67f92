import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { refusedOpenings } from "./comment-openings.ts";

describe("openings of comments", () => {
  it("are refused with a relative or interrogative word, in every kind of comment", () => {
    for (const comment of [
      "// Whose output was cut off is no success.",
      "/** What a container's shim says. */",
      "/**\n * Where the socket is.\n */",
      "const x = 1;\t// Which of them",
      "/* Of two calls the first counts. */",
    ]) {
      assert.equal(refusedOpenings("a.ts", comment).length, 1, comment);
    }
    assert.deepEqual(refusedOpenings("a.sh", "x=1\n# Who calls\ny=2 # What it is\n"), [2, 3]);
  });

  it("are the first words only", () => {
    for (const comment of [
      "/**\n * A name of a container,\n * which is unique.\n *\n * Where two share it, the first counts.\n */",
      "// The process\n// Whose output it is\n",
      "// Offset in bytes",
      'const url = "http://Where";',
    ]) {
      assert.deepEqual(refusedOpenings("a.ts", comment), [], comment);
    }
  });
});
