/** Long headers of tars; the random ones the same for the same seed, which a failure tells. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";

import fc from "fast-check";

import { streamOf } from "../../../test/support/image-store.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { messageOf } from "../../common/errors.ts";
import { readArchive } from "./archive-reader.ts";
import { ContentStore } from "./content-store.ts";
import { HeldDocuments } from "./held-documents.ts";
import { boundedHeaders } from "./tar-headers.ts";
import { entriesIn, type TarEntry } from "./tar-reader.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const directory = scratchDirectory();

interface Fields {
  readonly name?: string;
  readonly prefix?: string;
  /** Octal digits, or any other bytes of the field. */
  readonly size?: string;
}

/** A header of this type with the content behind it. */
function headed(type: string, content: string, fields: Fields = {}): Buffer {
  const header = Buffer.alloc(512);
  header.write(fields.name ?? "name", 0);
  header.write(fields.size ?? content.length.toString(8).padStart(11, "0"), 124, 12, "latin1");
  header.write(type, 156);
  header.write("ustar\x0000", 257);
  header.write(fields.prefix ?? "", 345);
  const sum = header.reduce((all, byte) => all + byte, 8 * 0x20);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, Buffer.from(content), Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** A PAX record, without what `taken` bytes have of its length. */
function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  const digits = String(rest.length + 2).length;
  return `${rest.length + digits + (String(rest.length + digits).length > digits ? 1 : 0)}${rest}`;
}

/** Records of different keys, of at least so many bytes. */
function records(bytes: number): string {
  return Array.from({ length: Math.ceil(bytes / 8) }, (_, index) =>
    record(index.toString(36).padStart(4, "0"), ""),
  ).join("");
}

async function entriesOf(tar: Uint8Array, piece?: number): Promise<TarEntry["header"][]> {
  const headers: TarEntry["header"][] = [];
  for await (const { header } of entriesIn(streamOf(tar, piece))) {
    headers.push(header);
  }
  return headers;
}

describe("the long headers of a tar", () => {
  const file = headed("0", "content");
  const refused = [
    [
      "one global one",
      [headed("g", records(4 * 1024 ** 2 - 8))],
      /global PAX header of more than 4096 bytes/,
    ],
    ["one of an entry", [headed("x", records(65_537))], /PAX header or long name of more than 65536 bytes/],
    ["one long name", [headed("L", "n".repeat(65_537))], /PAX header or long name of more than 65536 bytes/],
    ["all together", Array(260).fill(headed("x", "x".repeat(65_000))), /more than 16777216 bytes together/],
    ["one that is empty", [headed("x", "")], /invalid tar header/],
  ] as const;
  for (const [which, headers, message] of refused) {
    it(`are refused before they are parsed: ${which}`, async () => {
      const tar = Buffer.concat([...headers, headed("x", record("path", "p")), file]);
      await assert.rejects(entriesOf(tar, 100_000), { kind: "invalid", message });
      const store = await ContentStore.open(path.join(directory, which));
      using documents = new HeldDocuments();
      const read = readArchive(store, store.lease(), documents, streamOf(tar));
      await assert.rejects(read, { kind: "invalid", message });
    });
  }

  it("may be any number, if entries come with them", async () => {
    const one = Buffer.concat([
      headed("x", record("comment", "c".repeat(900))),
      headed("5", "", { name: "d/" }),
    ]);
    const tar = Buffer.concat(Array<Buffer>(20_000).fill(one));
    assert.equal((await entriesOf(tar)).length, 20_000);
  });

  it("are read as git and tar write them, whatever pieces they come in", async () => {
    const long = `${"n".repeat(90)}/${"m".repeat(120)}`;
    const inner = Buffer.concat([headed("g", records(10_000)), file]);
    const global = headed("g", record("comment", "0".repeat(40)));
    const made = await tarOf([
      { name: long, content: inner },
      { name: "file", content: "content" },
    ]);
    writeFileSync(path.join(directory, "file"), inner);
    const formats = ["gnu", "oldgnu", "pax", "v7"].map((format) =>
      execFileSync("tar", [
        `--format=${format}`,
        ...(format === "v7" ? [] : [`--transform=s,^file,${long},`]),
        ...["-C", directory, "-cf", "-", "file"],
      ]),
    );
    for (const tar of [Buffer.concat([global, made]), ...formats.slice(0, 3)]) {
      for (const piece of [7, 512, 10_000]) {
        const [first] = await entriesOf(tar, piece);
        assert.equal(first?.name, long);
        assert.equal(first.size, inner.length);
      }
    }
  });

  it("are found where tar-stream finds them", async () => {
    const long = headed("g", record("evil", "x".repeat(4_100)));
    const end = Buffer.concat([headed("x", record("path", "p")), file]);
    const size = fc.constantFrom(
      "0",
      "1",
      "13000",
      "5632",
      "511",
      "512",
      "1024",
      "2048",
      "-512",
      "7 ",
      "",
      "x",
      "\u00a0512",
    );
    const digits = fc.oneof(
      size,
      fc.constantFrom("\x292", "  512", "1 2", "\x80", "\x81", "\xff", `\x80${"\0".repeat(9)}\x02`),
    );
    const bits = fc.oneof(
      fc.constantFrom(Buffer.alloc(512), long, end),
      fc
        .tuple(
          fc.constantFrom("x", "g"),
          fc.constantFrom("size", "path", "size=1\n9 size"),
          size,
          fc.string({ maxLength: 9 }),
        )
        .map(([type, key, value, rest]) => headed(type, `${record(key, value)}${rest}`)),
      fc
        .record({
          type: fc.constantFrom("0", "\0", "5", "1", "2", "7", "S", "L", "K", "N", "V", "g", "x"),
          name: fc.constantFrom("", "d/", "f"),
          prefix: fc.constantFrom("", "p"),
          digits: fc.option(digits, { nil: undefined }),
        })
        .map(({ type, name, prefix, digits: field }) =>
          headed(type, "c".repeat(3), { name, prefix, ...(field === undefined ? {} : { size: field }) }),
        ),
    );
    const hiding = { size: "12000" };
    const named = headed("0", headed("0", "", hiding).toString("latin1"), { name: "d/" });
    const hidden = headed("0", "", hiding);
    const sized = [headed("g", record("size", "0")), headed("x", record("path", "p")), hidden];
    let passed = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(bits, { maxLength: 6 }), async (parts) => {
        const tar = Buffer.concat([...parts, long, end, end]);
        const headers: TarEntry["header"][] = [];
        try {
          for await (const { header } of entriesIn(streamOf(tar))) {
            headers.push(header);
          }
          passed++;
        } catch (error) {
          assert.match(messageOf(error), /PAX|tar header|Invalid header|Unexpected end/);
        }
        assert.deepEqual(
          headers.filter(({ pax }) => Object.hasOwn(pax ?? {}, "evil")),
          [],
        );
      }),
      { numRuns: 1_000, examples: [[[named]], [sized], [[hidden]]] },
    );
    assert.ok(passed > 0, "the long one was content now and then");
    await assert.rejects(Array.fromAsync(boundedHeaders(streamOf(long))), { kind: "invalid" });
  });
});
