import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { deadLinksOf } from "./links.ts";

const files: Readonly<Record<string, string>> = {
  "docs/other.md":
    '# Other\n\n## `cp`, and what it does\n\n## Twice\n\n## Twice\n\n```\n# no heading\n```\n<a id="set">',
  docs: "",
  "src/main.ts": "",
};

/** Dead links of docs/page.md with this text, without the document's name. */
function deadLinks(text: string): string[] {
  const read = (path: string): string | undefined => (path === "docs/page.md" ? text : files[path]);
  return deadLinksOf("docs/page.md", read).map((line) => line.replace("docs/page.md: ", ""));
}

describe("links of documents", () => {
  it("may lead to files, directories, headings and the web", () => {
    const alive = [
      "[a](other.md), [b](../src/main.ts), [c](../docs), [d](https://example.org/#x), ![e](../src/main.ts)",
      "[f](other.md#cp-and-what-it-does), [g](other.md#twice-1), [h](#here), [i](other.md#set)",
      "# Here",
      "[j]: other.md",
    ];
    assert.deepEqual(deadLinks(alive.join("\n\n")), []);
  });

  it("are dead where there is no such file or heading", () => {
    assert.deepEqual(deadLinks("[a](gone.md) and [b](other.md#gone), [c](#gone)\n\n[d]: gone.md"), [
      "gone.md: no such file",
      "other.md#gone: no such heading",
      "#gone: no such heading",
      "gone.md: no such file",
    ]);
    assert.deepEqual(deadLinks("[a](other.md#no-heading)"), ["other.md#no-heading: no such heading"]);
    assert.deepEqual(deadLinks('<img src="gone.svg">'), ["gone.svg: no such file"]);
  });

  it("are none in code", () => {
    assert.deepEqual(deadLinks("`[a](gone.md)`\n\n```\n[b](gone.md)\n```"), []);
  });
});
