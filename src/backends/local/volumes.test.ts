import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import pino from "pino";

import { until } from "../../../test/support/until.ts";
import { HelloResponseSchema, HostService } from "../../gen/sockerless/host/v1/host_pb.ts";
import { localVolumes } from "./volumes.ts";

describe("the watch of the room of volumes", () => {
  it("logs its failure once, unless the host process has ended, and restarts", async () => {
    const lines: string[] = [];
    const codes = [Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal, Code.Internal];
    const transport = createRouterTransport(({ service }) =>
      service(HostService, {
        async *watchVolumes() {
          const code = codes.shift();
          if (code !== undefined) {
            throw new ConnectError(`with ${Code[code]}`, code);
          }
          yield { name: "data", free: 1n, growth: 2n };
        },
      }),
    );
    const volumes = localVolumes(
      {
        client: createClient(HostService, transport),
        logger: pino({}, { write: (line) => lines.push(line) }),
      },
      create(HelloResponseSchema),
    );
    const end = new AbortController();
    const told: string[] = [];
    const watching = volumes.watchRoom(async ({ name }) => void told.push(name), end.signal);
    await until(() => told[0]);
    end.abort(new Error("the end"));
    await assert.rejects(watching, /the end/);
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /with Internal.*the room of volumes cannot be watched/);
  });
});
