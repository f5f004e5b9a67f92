import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultCapabilities } from "../../common/default-capabilities.ts";
import { capabilitiesOfMask, containerCapabilities } from "./capabilities.ts";

const everything = capabilitiesOfMask("000001ffffffffff");
const none = { capAdd: [], capDrop: [], privileged: false };

test("a mask of the kernel names its capabilities", () => {
  // What dockerd's default containers show in /proc/self/status.
  assert.deepEqual(new Set(capabilitiesOfMask("00000000a80425fb")), new Set(defaultCapabilities));
  assert.equal(everything.length, 41);
});

test("without a word a container gets the default set", () => {
  assert.deepEqual(containerCapabilities(none, everything), defaultCapabilities);
});

test("names are taken in any case, with and without the prefix", () => {
  const given = containerCapabilities(
    { ...none, capAdd: ["net_admin", "CAP_SYS_TIME"], capDrop: ["Chown"] },
    everything,
  );
  assert.ok(given.includes("CAP_NET_ADMIN") && given.includes("CAP_SYS_TIME"));
  assert.ok(!given.includes("CAP_CHOWN"));
});

test("ALL dropped leaves what was added, ALL added leaves out what was dropped", () => {
  assert.deepEqual(containerCapabilities({ ...none, capDrop: ["all"], capAdd: ["KILL"] }, everything), [
    "CAP_KILL",
  ]);
  const most = containerCapabilities({ ...none, capAdd: ["ALL"], capDrop: ["MKNOD"] }, everything);
  assert.deepEqual(
    most,
    everything.filter((name) => name !== "CAP_MKNOD"),
  );
});

test("a privileged container gets what the machine has and no more", () => {
  const machine = everything.filter((name) => name !== "CAP_SYS_RESOURCE");
  assert.deepEqual(containerCapabilities({ ...none, privileged: true }, machine), machine);
});

test("a name that Linux does not have, or this machine cannot give, is refused", () => {
  const refusal = (capAdd: string[], machine: readonly string[]) => () =>
    containerCapabilities({ ...none, capAdd }, machine);
  assert.throws(refusal(["FLY"], everything), { kind: "invalid", message: 'unknown capability: "CAP_FLY"' });
  assert.throws(refusal(["SYS_RESOURCE"], defaultCapabilities), {
    kind: "invalid",
    message:
      'capability not supported by your kernel or not available in the current environment: "CAP_SYS_RESOURCE"',
  });
});
