/** Texts of a request that are as long as they may be, and made to be read slowly: an answer that takes hours is none. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { serveApi } from "../../../test/support/docker-api.ts";
import { RawClient } from "../../../test/support/raw-client.ts";
import { until } from "../../../test/support/until.ts";

/** Short of the mebibyte that all headers may have. */
const long = 1_000_000;

const made: Readonly<Record<string, readonly [target: string, contentType: string]>> = {
  "a content type with blanks before its end": ["/containers/create", `application/json${" ".repeat(long)}x`],
  "a content type with blanks behind a parameter": [
    "/containers/create",
    `application/json;a=b${" ".repeat(long)}x`,
  ],
  "a content type of parameters": ["/containers/create", `application/json${";a=b".repeat(long / 4)}/`],
  "an image's name of digests, ended by a line": [
    `/images/create?fromImage=${"@".repeat(long)}%0A&tag=x`,
    "",
  ],
  "an image's name of tags": [`/images/create?fromImage=${"a:".repeat(long / 2)}%0A&tag=x`, ""],
};

for (const [what, [target, contentType]] of Object.entries(made)) {
  test(`answers ${what}`, async (t) => {
    const api = await serveApi(t, () => {});
    const client = new RawClient(api.socket);
    t.after(() => client.close());
    const type = contentType === "" ? "" : `Content-Type: ${contentType}\r\n`;
    client.send(`POST ${target} HTTP/1.1\r\nHost: d\r\n${type}Content-Length: 2\r\n\r\n{}`);
    await until(() => client.bytes.length > 0 || undefined);
    assert.match(client.header, /^HTTP\/1\.1 [45]\d\d /);
  });
}
