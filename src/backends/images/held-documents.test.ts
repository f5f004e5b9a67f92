import assert from "node:assert/strict";
import { test } from "node:test";

import { SockerlessError } from "../../common/errors.ts";
import { HeldDocuments } from "./held-documents.ts";

const mib = 1024 ** 2;

/** Asks for another request's documents, kept by the stack. */
function isRefused(requests: DisposableStack, bytes: number): boolean {
  const documents = requests.use(new HeldDocuments());
  try {
    documents.take(bytes);
    return false;
  } catch (error) {
    documents[Symbol.dispose]();
    return error instanceof SockerlessError && error.kind === "unavailable";
  }
}

test("many requests that keep their documents leave others a little, and refuse large ones until they end", () => {
  {
    using requests = new DisposableStack();
    assert.equal(isRefused(requests, 64 * mib), false);
    let held = 64;
    for (; !isRefused(requests, 4 * mib); held += 4) {
      assert.ok(held < 640, `${held} MiB are held`);
    }
    assert.equal(isRefused(requests, 200 * 1024), false);
  }
  using requests = new DisposableStack();
  assert.equal(isRefused(requests, 64 * mib), false);
});
