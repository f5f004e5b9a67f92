import assert from "node:assert/strict";
import type { RequestListener } from "node:http";
import { describe, it } from "node:test";
import { json } from "node:stream/consumers";

import { create } from "@bufbuild/protobuf";
import type { V1NetworkPolicy } from "@kubernetes/client-node";

import { ManualClock } from "../../common/manual-clock.ts";
import { NetworkSchema } from "../../gen/sockerless/backend/v1/network_pb.ts";
import { NetworkRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { KubernetesClient } from "./api/client.ts";
import { kubernetesNetworks } from "./networks.ts";
import { standIn } from "./testing/stand-in.ts";

const network = create(NetworkRecordSchema, {
  network: create(NetworkSchema, { id: "e".repeat(64), name: "net", driver: "bridge" }),
});

describe("the NetworkPolicy of a network", () => {
  const ensure = async (client: KubernetesClient, isDirect: boolean): Promise<void> => {
    const instance = "sockerless/0123456789abcdef";
    const settings = { client, instance, policies: true, isDirect, callbackPort: undefined };
    await kubernetesNetworks(settings).ensure(network);
  };

  it("follows the settings, if the role has the right", async () => {
    for (const mayUpdate of [true, false]) {
      const policies = new Map<string, Pick<V1NetworkPolicy, "spec">>();
      const refuse = (code: number, message: string) => ({ kind: "Status", code, message });
      const answer: RequestListener = (request, response) => {
        void (json(request) as Promise<V1NetworkPolicy>).then((body) => {
          const name = body.metadata?.name ?? "";
          const isUpdate = request.method === "PUT";
          const refusal =
            isUpdate && !mayUpdate
              ? refuse(403, 'User "me" cannot update resource "networkpolicies"')
              : isUpdate !== policies.has(name)
                ? refuse(isUpdate ? 404 : 409, "it is not there, or is")
                : undefined;
          if (refusal === undefined) {
            policies.set(name, body);
          }
          response.writeHead(refusal?.code ?? 200, { "content-type": "application/json" });
          response.end(JSON.stringify(refusal ?? body));
        });
      };
      await using server = await standIn(answer, new ManualClock());
      const ports = (): unknown =>
        policies.get("sockerless-eeeeeeeeeeee")?.spec?.ingress?.map((rule) => rule.ports);
      await ensure(server.client, false);
      assert.deepEqual(ports(), [undefined]);
      await ensure(server.client, true);
      assert.deepEqual(ports(), mayUpdate ? [undefined, [{ port: 9111 }]] : [undefined]);
    }
  });
});
