/**
 * A check of `sockerless doctor --start-pod`: whether network policies hold. A pod on a network is called by another on it, and
 * by one that is on none, whom the network's policy shuts out.
 */
import { create } from "@bufbuild/protobuf";
import type { V1Pod } from "@kubernetes/client-node";

import { messageOf } from "../../../common/errors.ts";
import { ok, type Result, unknown, warning } from "../../../common/finding.ts";
import { newId } from "../../../common/ids.ts";
import { NetworkSchema } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { memberLabel, policyName, policyOf } from "../networks/policy.ts";
import { mainContainerName } from "../pods/pod-spec.ts";
import { DoctorPod, type DoctorSurroundings } from "./doctor-pod.ts";
import { startOf } from "./start-pod.ts";

/** A plugin hears of a new pod a little later than the pod runs. */
const settlingMs = 2_000;

/** @throws KubernetesError; the signal's reason */
export async function tryPolicy(around: DoctorSurroundings, signal: AbortSignal): Promise<Result> {
  const { client, settings, logger } = around;
  const { namespace } = client;
  const network = create(NetworkSchema, { id: newId(), name: "doctor" });
  const { instance } = settings;
  const body = policyOf(network, { namespace, instance, isDirect: false });
  await client.call(
    "create networkpolicies",
    (options) => client.networking.createNamespacedNetworkPolicy({ namespace, body }, options),
    signal,
  );
  try {
    return await callAcross(around, memberLabel(network.id), signal);
  } finally {
    const name = policyName(network.id);
    await client
      .call("delete networkpolicies", (options) =>
        client.networking.deleteNamespacedNetworkPolicy({ namespace, name }, options),
      )
      .catch((error: unknown) =>
        logger.warn({ err: error }, `cannot delete the network policy ${name}: ${messageOf(error)}`),
      );
  }
}

async function callAcross(
  around: DoctorSurroundings,
  member: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Result> {
  const listening = { ...around, settings: { ...around.settings, isDirect: true } };
  await using called = await DoctorPod.make(listening, { labels: member }, signal);
  const started = await called.until(startOf, signal);
  const address = called.last.status?.podIP;
  if (started?.status !== "ok" || address === undefined) {
    return unknown("no pod runs that could be called");
  }
  await around.clock.sleep(settlingMs, signal);
  const reaches = async (labels: Readonly<Record<string, string>>): Promise<boolean | undefined> => {
    const args = ["reach", address.includes(":") ? `[${address}]:${agentPort}` : `${address}:${agentPort}`];
    await using caller = await DoctorPod.make(around, { labels, args }, signal);
    return await caller.until(hasReached, signal);
  };
  const [fromMember, fromStranger] = await Promise.all([reaches(member), reaches({})]);
  if (fromMember !== true || fromStranger === undefined) {
    return unknown("pods on one network do not reach each other: other policies or firewalls are in the way");
  }
  return fromStranger
    ? warning(
        "they do not hold: a pod on no network reaches one on a network. Have a CNI plugin that enforces them, or set kubernetes.network_policies to false, which is as open and says so",
      )
    : ok("a pod on no network does not reach one on a network");
}

/** The exit of `sockerless-agent reach`; undefined: it has not ended, or could not try. */
function hasReached({ status }: V1Pod): boolean | undefined {
  const { terminated } =
    status?.containerStatuses?.find(({ name }) => name === mainContainerName)?.state ?? {};
  return terminated?.exitCode === 0 ? true : terminated?.exitCode === unreached ? false : undefined;
}

/** The agent's exit code where it has reached nobody. */
const unreached = 1;
