import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../common/manual-clock.ts";
import { VolumeRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { workloadSpec } from "../cloud/testing/workload-spec.ts";
import { standIn } from "./testing/stand-in.ts";
import { kubernetesVolumes } from "./volumes.ts";

it("a start asks for each claim once, however many paths it is mounted at", async () => {
  const asked: (string | undefined)[] = [];
  await using api = await standIn((request, response) => {
    asked.push(request.url);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ metadata: {}, status: { phase: "Bound" } }));
  }, new ManualClock());
  const settings = {
    ...{ namespace: "docker", instance: "sockerless/0123456789abcdef" },
    ...{ sharedStorageClass: undefined, sharedAccessMode: "ReadWriteMany" as const },
    ...{ blockStorageClass: undefined, volumeSize: 1024 },
  };
  const volumes = kubernetesVolumes(api.client, { settings, claimAnonymous: false });
  const mounts = ["one", "two"].flatMap((name) => {
    const volume = create(VolumeRecordSchema, { name, driver: "local", driverReference: `docker/${name}` });
    return Array.from({ length: 100 }, (_, at) => ({
      ...{ type: "volume" as const, destination: `/${name}/${at}`, readOnly: false, volume },
    }));
  });
  await volumes.refuseLost(workloadSpec({}, { mounts }), (_stillTo, step) =>
    step(AbortSignal.timeout(5_000)),
  );
  const path = "/api/v1/namespaces/docker/persistentvolumeclaims";
  assert.deepEqual(asked, [`${path}/one`, `${path}/two`]);
});
