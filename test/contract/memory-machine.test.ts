import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

import { create } from "@bufbuild/protobuf";

import { ImageRecordSchema } from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { driverContract } from "./driver-contract.ts";
import { MemoryMachine } from "./memory-machine.ts";

// The engine's tests stand on this driver, so it has to keep the contract too. A run writes to this machine's
// file system, below /tmp only, what it would write to one of its own.
driverContract("in-memory", async () => {
  const machine = new MemoryMachine(mkdtempSync(path.join(tmpdir(), "machine-")));
  return {
    driver: machine.driver(),
    runsHere: true,
    image: create(ImageRecordSchema, { id: `sha256:${"5".repeat(64)}` }),
    close: () => machine.close(),
  };
});
