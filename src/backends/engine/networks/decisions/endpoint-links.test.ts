import assert from "node:assert/strict";
import { test } from "node:test";

import { isErrorKind } from "../../../../common/errors.ts";
import { withLinks } from "./endpoint-links.ts";

const peers = [
  { names: ["web", "0123456789ab"], addresses: ["10.0.0.2"] },
  { names: ["db1", "db"], addresses: ["10.0.0.3"] },
  { names: ["db2", "db"], addresses: ["10.0.0.4"] },
];
const found = (links: string[], name: string) =>
  withLinks(peers, links)
    .filter(({ names }) => names.includes(name))
    .flatMap(({ addresses }) => addresses);

test("a link is one more name of those that have the linked one, after their own", () => {
  assert.deepEqual(found(["db1:store"], "store"), ["10.0.0.3"]);
  assert.deepEqual(found(["db:store"], "store"), ["10.0.0.3", "10.0.0.4"]);
  assert.deepEqual(found(["0123456789ab:front", "WEB:www"], "www"), ["10.0.0.2"]);
  assert.deepEqual(withLinks(peers, ["db1:store"])[1]?.names, ["db1", "db", "store"]);
  assert.deepEqual(withLinks(peers, []), peers);
});

test("a link to a name as such changes nothing", () => {
  assert.deepEqual(found(["web"], "web"), ["10.0.0.2"]);
});

test("an alias hides who has that name on the network, also while the linked one is away", () => {
  assert.deepEqual(found(["db1:web"], "web"), ["10.0.0.3"]);
  assert.deepEqual(found(["away:web"], "web"), []);
  assert.deepEqual(found(["away:web"], "0123456789ab"), ["10.0.0.2"]);
});

test("links that inspect shows are read as such, malformed ones refused", () => {
  assert.deepEqual(found(["/db2:/one/store"], "store"), ["10.0.0.4"]);
  for (const link of ["", "a:b:c"]) {
    assert.throws(
      () => withLinks(peers, [link]),
      (error) => isErrorKind(error, "invalid"),
    );
  }
});
