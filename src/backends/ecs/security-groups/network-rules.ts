/** What the security group of a network lets through. Pure. */
import { agentPort } from "../agent-port.ts";
import { nfsPort, type Rule } from "./rules.ts";

/** What rules depend on. */
export interface RuleContext {
  readonly groupId: string;
  /** Whether containers reach one another. */
  readonly connected: boolean;
  /** Who may reach agents. */
  readonly agentPeers: readonly Rule["peer"][];
  /** Group of the file system's mount targets. */
  readonly efsGroupId: string | undefined;
}

const anywhere = { cidr: "0.0.0.0/0" } as const;

/** What a group lets in. */
export function ingressRules({ groupId, connected, agentPeers }: RuleContext): Rule[] {
  return [among(groupId, connected), ...agentPeers.map((peer) => ({ tcpPort: agentPort, peer }))];
}

/**
 * What a group lets out that does not lead everywhere. A task's image is pulled and its log written through the task's
 * own interface, so HTTPS has to stay open on networks that lead nowhere.
 */
export function egressRules({ groupId, connected, efsGroupId }: RuleContext): Rule[] {
  return [
    among(groupId, connected),
    { tcpPort: 443, peer: anywhere },
    ...(efsGroupId === undefined ? [] : [{ tcpPort: nfsPort, peer: { group: efsGroupId } }]),
  ];
}

/** Agents always reach one another: those of containers that share a network have to, and they open to no one else. */
function among(groupId: string, connected: boolean): Rule {
  return { tcpPort: connected ? undefined : agentPort, peer: { group: groupId } };
}
