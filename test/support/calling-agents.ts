/** Settings under which the agents of a simulated account's tasks call the backend, and nobody reaches them. */
import type { Aws } from "../simulators/aws/aws.ts";
import { freePort } from "./free-port.ts";

/** Whether every test on ECS is asked to run with agents that call, but those that choose by themselves. */
export const agentsCall = process.env["SOCKERLESS_TEST_AGENTS"] === "callback";

/**
 * Settings of the `ecs:` section.
 *
 * @param port at which the backend waits for them, or a proxy before it; by default one that is free
 */
export async function callingAgents(
  { services, account }: Aws,
  port?: number,
): Promise<Readonly<Record<string, unknown>>> {
  const host = services.network.subnets()[0]?.routerAddress ?? "";
  const { groups } = services.network;
  const { groupId } = groups.create("closed", "nobody comes in", {}, account.vpcId);
  const everything = { protocol: "-1", fromPort: -1, toPort: -1 } as const;
  groups.authorize(groupId, [{ groupId, direction: "ingress", ...everything, peer: { groupId } }], {});
  const nfs = { protocol: "tcp", fromPort: 2049, toPort: 2049, peer: { groupId } } as const;
  const mountTargets = account.efsSecurityGroupId;
  groups.authorize(mountTargets, [{ groupId: mountTargets, direction: "ingress", ...nfs }], {});
  return {
    agent_mode: "callback",
    callback_url: `wss://${host}:${port ?? (await freePort())}/sockerless`,
    security_groups: [groupId],
    agent_ingress: [],
  };
}
