/**
 * The driver contract as a suite of tests. A driver's own test calls {@link driverContract} with a way to
 * make one; the suite speaks to the agents that the driver brings up, as the engine does.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";

import { createAgentClient, type AgentClient } from "../../src/agent-client/client.ts";
import type { Driver } from "../../src/backends/driver/driver.ts";
import type { Launched } from "../../src/backends/driver/launches.ts";
import type { WorkloadSpec } from "../../src/backends/driver/workload-spec.ts";
import { newId } from "../../src/common/ids.ts";
import { isErrorKind } from "../../src/common/errors.ts";
import { WatchRequestSchema } from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerConfigSchema, HostConfigSchema } from "../../src/gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerStateSchema,
  ContainerStatus,
  NetworkEndpointSchema,
} from "../../src/gen/sockerless/backend/v1/container_pb.ts";
import { NetworkSchema } from "../../src/gen/sockerless/backend/v1/network_pb.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  type ImageRecord,
  NetworkRecordSchema,
  VolumeRecordSchema,
} from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { untold } from "../support/untold.ts";

/** A driver and what the suite needs beside it. */
export interface DriverUnderTest {
  readonly driver: Driver;
  /** Containers are processes of this machine, without mounts and networks of their own. */
  readonly runsHere?: boolean;
  /** Containers do not reach one another: what passes between them goes through agents, by the engine. */
  readonly areApart?: boolean;
  /** An image that the driver can run already; it has `/bin/sh`. */
  readonly image: ImageRecord;
  /** Ends the driver and everything it ran. */
  close(): Promise<void>;
}

/** Declares the suite for one driver. */
export function driverContract(name: string, makeDriver: () => Promise<DriverUnderTest>): void {
  describe(`the ${name} driver`, () => {
    let under: DriverUnderTest;
    const made = new Set<string>();
    const clients: AgentClient[] = [];

    before(async () => {
      under = await makeDriver();
    });
    after(async () => {
      for (const client of clients) {
        client.close();
      }
      for (const id of made) {
        await under.driver.workloads.remove(id);
      }
      await under.close();
    });

    const specOf = (script: string, fields: Partial<WorkloadSpec> = {}, generation = 1n): WorkloadSpec => {
      const id = fields.record?.id ?? newId();
      made.add(id);
      const args = ["/bin/sh", "-c", script];
      return {
        record: fields.record ?? newRecord(id, under.image, args, generation),
        image: under.image,
        args,
        env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        mounts: [],
        network: { kind: "none" },
        ...fields,
      };
    };

    const agentOf = (launched: Launched, containerId: string) => {
      const { authority } = under.driver;
      const agent = createAgentClient(launched.agent, {
        containerId,
        credentials: () => authority.credentialsFor(containerId),
      });
      clients.push(agent);
      return agent.client;
    };

    /** As the engine does. */
    const start = async (spec: WorkloadSpec, launched: Launched) => {
      const details = await under.driver.launches.startDetails(spec);
      const { generation } = spec.record;
      return await agentOf(launched, spec.record.id).start({ ...details, generation });
    };

    const launch = (spec: WorkloadSpec): Promise<Launched> =>
      under.driver.workloads.launch(spec, AbortSignal.timeout(60_000), untold);

    /** Launches, starts and waits for the exit, as the agent's watch tells it. */
    const runToExit = async (spec: WorkloadSpec): Promise<number> => {
      const launched = await launch(spec);
      const agent = agentOf(launched, spec.record.id);
      const watch = agent.watch(create(WatchRequestSchema));
      const { result } = await start(spec, launched);
      assert.equal(
        result.case,
        "started",
        JSON.stringify(result.value, (_, v) => String(v)),
      );
      for await (const { event, generation: told } of watch) {
        if (event.case === "exited") {
          return event.value.code;
        }
        const isOfThisRun = told === 0n || told === spec.record.generation;
        if (isOfThisRun && event.case === "state" && event.value.exit !== undefined) {
          return event.value.exit.code;
        }
      }
      throw new Error("the watch ended without the exit");
    };

    it("runs nothing before the agent is told to start, and then the command with its exit code", async () => {
      const spec = specOf("exit 42");
      await under.driver.workloads.create(spec);
      assert.equal(await runToExit(spec), 42);
    });

    it("leaves a creation that is repeated as it is", async () => {
      const spec = specOf("exit 0");
      await under.driver.workloads.create(spec);
      await under.driver.workloads.create(spec);
      assert.equal(await runToExit(spec), 0);
    });

    it("answers a launch of the same generation with the same agent", async () => {
      const spec = specOf("sleep 60");
      await under.driver.workloads.create(spec);
      const [first, second] = [await launch(spec), await launch(spec)];
      assert.deepEqual(second.agent, first.agent);
      assert.equal(second.reference, first.reference);
    });

    it("lists what runs with its agent, and what has ended with its exit", async () => {
      const running = specOf("sleep 60");
      const ended = specOf("exit 6");
      await under.driver.workloads.create(running);
      await under.driver.workloads.create(ended);
      const launched = await launch(running);
      await start(running, launched);
      await runToExit(ended);
      await under.driver.workloads.release(ended.record.id);
      const listed = await under.driver.workloads.list();
      const found = (id: string) => listed.find((workload) => workload.containerId === id);
      assert.deepEqual(found(running.record.id)?.agent, launched.agent);
      assert.equal(found(running.record.id)?.generation, 1n);
      assert.equal(found(ended.record.id)?.agent, undefined);
      assert.equal(found(ended.record.id)?.exit?.code, 6);
      const finishedAt = found(ended.record.id)?.exit?.finishedAt.getTime() ?? 0;
      assert.ok(Math.abs(Date.now() - finishedAt) < 60_000, `finished at ${finishedAt}`);
    });

    it("kills what still runs when it is released, and may be asked again", async () => {
      const spec = specOf("trap '' TERM; while :; do sleep 1; done");
      await under.driver.workloads.create(spec);
      const launched = await launch(spec);
      await start(spec, launched);
      await under.driver.workloads.release(spec.record.id);
      await under.driver.workloads.release(spec.record.id);
      const listed = await under.driver.workloads.list();
      const found = listed.find((workload) => workload.containerId === spec.record.id);
      assert.equal(found?.agent, undefined);
      assert.equal(found?.exit?.code, 137);
    });

    it("runs a container again as its next generation, with the files of its runs before", async () => {
      const first = specOf("echo kept > /tmp/kept; exit 1");
      await under.driver.workloads.create(first);
      assert.equal(await runToExit(first), 1);
      await under.driver.workloads.release(first.record.id);
      const again = specOf("grep -q kept /tmp/kept && rm /tmp/kept && exit 2", { record: first.record });
      const second = { ...again, record: { ...first.record, generation: 2n } };
      assert.equal(await runToExit(second), 2);
      const listed = await under.driver.workloads.list();
      assert.equal(listed.find((workload) => workload.containerId === first.record.id)?.generation, 2n);
    });

    it("forgets a container that is removed, and may be asked again", async () => {
      const spec = specOf("sleep 60");
      await under.driver.workloads.create(spec);
      const launched = await launch(spec);
      await start(spec, launched);
      await under.driver.workloads.remove(spec.record.id);
      await under.driver.workloads.remove(spec.record.id);
      const listed = await under.driver.workloads.list();
      assert.equal(
        listed.some((workload) => workload.containerId === spec.record.id),
        false,
      );
    });

    it("tells a command that does not exist from one that cannot be executed", async () => {
      for (const [file, code] of [
        ["/nowhere/command", 127],
        ["/", 126],
      ] as const) {
        const spec = { ...specOf("true"), args: [file] };
        await under.driver.workloads.create(spec);
        const launched = await launch(spec);
        const { result } = await start(spec, launched);
        assert.equal(result.case === "failure" && result.value.exitCode, code, file);
        await under.driver.workloads.release(spec.record.id);
      }
    });

    it("gives a process its arguments and environment as they are", async () => {
      const spec = specOf('test "$A" = "1 2" && test -z "$B" && test -z "$C"', {
        env: ["PATH=/bin:/usr/bin", "A=1 2", "B="],
      });
      await under.driver.workloads.create(spec);
      assert.equal(await runToExit(spec), 0);
    });

    /** One of each kind that the driver has. */
    const newVolumes = () =>
      under.driver.volumes.rules.drivers.map(({ name: driver }) =>
        create(VolumeRecordSchema, { name: `contract-${newId().slice(0, 12)}`, driver }),
      );

    it("makes a volume and unmakes it, each as often as it is asked", async () => {
      for (const record of newVolumes()) {
        const made = await under.driver.volumes.create(record);
        assert.deepEqual(await under.driver.volumes.create(record), made, record.driver);
        await under.driver.volumes.remove(record);
        await under.driver.volumes.remove(record);
      }
    });

    it("shows the containers that mount a volume the same files", async (t) => {
      if (under.runsHere === true) {
        t.skip("mounts nothing");
        return;
      }
      for (const planned of newVolumes()) {
        const { reference, mountpoint, status } = await under.driver.volumes.create(planned);
        const volume = { ...planned, driverReference: reference, mountpoint };
        const mounts = [{ type: "volume", destination: "/data", readOnly: false, volume }] as const;
        const writer = specOf("echo shared > /data/file", { mounts });
        const reader = specOf("grep -q shared /data/file && exit 4", { mounts });
        // A volume that tells a lifetime is empty after it: grep finds no file.
        const found = status["lifetime"] === undefined ? 4 : 2;
        for (const [spec, code] of [
          [writer, 0],
          [reader, found],
        ] as const) {
          await under.driver.workloads.create(spec);
          assert.equal(await runToExit(spec), code, planned.driver);
          await under.driver.workloads.release(spec.record.id);
        }
        await Promise.all([writer, reader].map(({ record }) => under.driver.workloads.remove(record.id)));
        await under.driver.volumes.remove(volume);
      }
    });

    const newNetwork = () =>
      create(NetworkRecordSchema, {
        network: create(NetworkSchema, {
          id: newId(),
          name: `contract-${newId().slice(0, 8)}`,
          driver: "bridge",
          scope: "local",
          pools: [{ subnet: "10.213.0.0/24", gateway: "10.213.0.1" }],
        }),
      });

    it("lets the containers of a network reach one another by the names that their agents are told", async (t) => {
      if (under.runsHere === true || under.areApart === true) {
        t.skip("has no networks");
        return;
      }
      const planned = newNetwork();
      const record = { ...planned, driverReference: await under.driver.networks.ensure(planned) };
      const name = planned.network?.name ?? "";
      const on = (script: string, host: number): WorkloadSpec => {
        const spec = specOf(script, { network: { kind: "networks", networks: [{ name, record }] } });
        const endpoint = create(NetworkEndpointSchema, {
          networkId: planned.network?.id ?? "",
          endpointId: newId(),
          ipAddress: `10.213.0.${host}`,
          ipPrefixLen: 24,
          gateway: "10.213.0.1",
          macAddress: `02:42:0a:d5:00:0${host}`,
        });
        return { ...spec, record: { ...spec.record, endpoints: { [name]: endpoint } } };
      };
      const server = on("nc -ll -p 7 -e cat", 2);
      const client = on("until echo hello | nc server 7 | grep -q hello; do sleep 0.1; done; exit 5", 3);
      await Promise.all([server, client].map((spec) => under.driver.workloads.create(spec)));
      const serving = await launch(server);
      await start(server, serving);
      const asking = await launch(client); // The same agent as below: a launch of a generation is one.
      await agentOf(asking, client.record.id).names({
        networks: [{ name, peers: [{ names: ["server"], addresses: [serving.address ?? "10.213.0.2"] }] }],
      });
      assert.equal(await runToExit(client), 5);
      await Promise.all([server, client].map((spec) => under.driver.workloads.remove(spec.record.id)));
      await under.driver.networks.remove(record);
    });

    it("makes a network once, answers the same reference again, and unmakes it", async () => {
      const record = newNetwork();
      const reference = await under.driver.networks.ensure(record);
      assert.equal(await under.driver.networks.ensure(record), reference);
      await under.driver.networks.remove({ ...record, driverReference: reference });
      await under.driver.networks.remove({ ...record, driverReference: reference });
    });

    it("ends a launch that is not wanted any more", async () => {
      const spec = specOf("sleep 60");
      await under.driver.workloads.create(spec);
      const aborted = AbortSignal.abort(new Error("not wanted"));
      await under.driver.workloads.launch(spec, aborted, untold).then(
        () => undefined,
        (error: unknown) => assert.equal(isErrorKind(error, "not-found"), false),
      );
      await under.driver.workloads.remove(spec.record.id);
    });
  });
}

function newRecord(
  id: string,
  image: ImageRecord,
  args: readonly string[],
  generation: bigint,
): ContainerRecord {
  const [path = "", ...rest] = args;
  return create(ContainerRecordSchema, {
    id,
    name: `contract_${id.slice(0, 12)}`,
    created: timestampNow(),
    config: create(ContainerConfigSchema, { hostname: id.slice(0, 12), image: "contract" }),
    hostConfig: create(HostConfigSchema, {
      networkMode: "none",
      ipcMode: "private",
      cgroupnsMode: "host",
      shmSize: 67_108_864n,
      logConfig: { type: "json-file" },
    }),
    imageId: image.id,
    layerDiffIds: image.diffIds,
    state: create(ContainerStateSchema, { status: ContainerStatus.CREATED }),
    path,
    args: rest,
    generation,
  });
}
