import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { streamOf } from "../../../../test/support/image-store.ts";
import { tarOf } from "../../../../test/support/tar.ts";
import { FileIndex } from "../../images/file-index.ts";
import { ownerIn } from "./archive-owner.ts";

async function owner(user: string, passwd: string, group = ""): Promise<string | undefined> {
  const index = new FileIndex();
  const layer = await tarOf([
    { name: "etc/passwd", content: passwd },
    { name: "etc/group", content: group },
  ]);
  await index.addLayer({ open: () => streamOf(layer) });
  const found = await ownerIn(index, user);
  return found && `${found.uid}:${found.gid}`;
}

describe("the owner of what is copied into a container that has not run", () => {
  const passwd = "root:x:0:0::/:\napp:x:1000:1001::/:\nagain:x:1000:7::/:\n";
  const group = "#staff:x:3:\nstaff:x:50:\n";

  it("is its user, by name or number", async () => {
    assert.equal(await owner("", passwd), "0:0");
    assert.equal(await owner("app", passwd), "1000:1001");
    assert.equal(await owner("1000", passwd), "1000:1001");
    assert.equal(await owner("app:staff", passwd, group), "1000:50");
    assert.equal(await owner("app:50:7", passwd, group), "1000:50");
    assert.equal(await owner("4711", passwd), "4711:0");
    assert.equal(await owner("4711:4712", passwd), "4711:4712");
    assert.equal(await owner("stranger", passwd), undefined);
    assert.equal(await owner("app:stranger", passwd, group), undefined);
    assert.equal(await owner("app:#staff", passwd, group), undefined);
  });

  it("is never one whose name is a number", async () => {
    const hostile = `1000:x:0:0::/:\n99999999999999999999:x:0:0::/:\n-1:x:0:0::/:\n${passwd}`;
    assert.equal(await owner("1000", hostile), "1000:1001");
    assert.equal(await owner("5:50", hostile, "50:x:0:\n"), "5:50");
    for (const user of ["99999999999999999999", "-1", "5:99999999999999999999", "5:-1"]) {
      assert.equal(await owner(user, hostile, "99999999999999999999:x:0:\n-1:x:0:\n"), undefined, user);
    }
  });

  it("has numbers that a process can have", async () => {
    for (const number of ["4294967296", "-1", "2147483648", "1e3", "0x10", "", "1000 "]) {
      assert.equal(await owner("app", `app:x:${number}:1::/:`), undefined, `uid ${number}`);
      assert.equal(await owner("1:big", passwd, `big:x:${number}:`), undefined, `gid ${number}`);
    }
    assert.equal(await owner("app", "app:x:1000:4294967296::/:"), undefined);
    assert.equal(await owner("app", "app:x:1000"), "1000:0");
  });
});
