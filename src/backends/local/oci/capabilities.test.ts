import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultCapabilities } from "../../security/linux-capabilities.ts";
import { capabilitiesOfMask, containerCapabilities } from "./capabilities.ts";

const everything = capabilitiesOfMask("000001ffffffffff");
const none = { capAdd: [], capDrop: [], privileged: false };

test("a mask of the kernel names its capabilities", () => {
  // /proc/self/status shows this mask in dockerd's default containers.
  assert.deepEqual(new Set(capabilitiesOfMask("00000000a80425fb")), new Set(defaultCapabilities));
  assert.equal(everything.length, 41);
});

test("without a word a container gets the default set", () => {
  assert.deepEqual(containerCapabilities(none, everything), defaultCapabilities);
});

test("added and dropped capabilities change the default set", () => {
  const given = containerCapabilities(
    { ...none, capAdd: ["CAP_NET_ADMIN", "CAP_SYS_TIME"], capDrop: ["CAP_CHOWN"] },
    everything,
  );
  const kept = defaultCapabilities.filter((name) => name !== "CAP_CHOWN");
  assert.deepEqual(given, [...kept, "CAP_NET_ADMIN", "CAP_SYS_TIME"]);
});

test("dropping ALL keeps added capabilities, adding ALL omits dropped ones", () => {
  assert.deepEqual(containerCapabilities({ ...none, capDrop: ["ALL"], capAdd: ["CAP_KILL"] }, everything), [
    "CAP_KILL",
  ]);
  const most = containerCapabilities({ ...none, capAdd: ["ALL"], capDrop: ["CAP_MKNOD"] }, everything);
  assert.deepEqual(
    most,
    everything.filter((name) => name !== "CAP_MKNOD"),
  );
});

test("a capability is the same whichever way it is written", () => {
  const expected = defaultCapabilities.filter((name) => name !== "CAP_MKNOD").concat("CAP_NET_ADMIN");
  for (const capDrop of [["MKNOD"], ["cap_mknod"], ["CAP_MKNOD"], ["mknod", "CAP_MKNOD"]]) {
    assert.deepEqual(
      containerCapabilities({ ...none, capAdd: ["net_admin"], capDrop }, everything),
      expected,
    );
  }
  assert.deepEqual(containerCapabilities({ ...none, capDrop: ["all"] }, everything), []);
});

test("a privileged container gets the machine's capabilities and no more", () => {
  const machine = everything.filter((name) => name !== "CAP_SYS_RESOURCE");
  assert.deepEqual(containerCapabilities({ ...none, privileged: true }, machine), machine);
});

test("capabilities missing on this machine are refused", () => {
  const refusal = (capAdd: string[], machine: readonly string[]) => () =>
    containerCapabilities({ ...none, capAdd }, machine);
  assert.throws(refusal(["CAP_SYS_RESOURCE"], defaultCapabilities), {
    kind: "invalid",
    message:
      'capability not supported by your kernel or not available in the current environment: "CAP_SYS_RESOURCE"',
  });
});
