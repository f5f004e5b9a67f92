/** Rules of the security group of a network. Pure. */
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { nfsPort, type Rule } from "./rules.ts";

/** Facts that the rules of a group depend on. */
export interface RuleContext {
  readonly groupId: string;
  /** Whether containers reach one another. */
  readonly connected: boolean;
  /** Peers that may reach agents. */
  readonly agentPeers: readonly Rule["peer"][];
  /** Group of the file system's mount targets. */
  readonly efsGroupId: string | undefined;
  /** TCP port at which agents call the backend; undefined: they are dialled. */
  readonly callbackPort: number | undefined;
}

const anywhere = [{ cidr: "0.0.0.0/0" }, { cidr: "::/0" }] as const;

/** The ingress rules of a network's group. */
export function ingressRules({ groupId, connected, agentPeers }: RuleContext): Rule[] {
  return [among(groupId, connected), ...agentPeers.map((peer) => ({ tcpPort: agentPort, peer }))];
}

/**
 * The egress rules of a group that does not lead everywhere. A task's image is pulled and its log written through the
 * task's own interface, so HTTPS has to stay open on networks that lead nowhere; and so has the way to the backend where agents call it.
 */
export function egressRules({ groupId, connected, efsGroupId, callbackPort }: RuleContext): Rule[] {
  const ports = new Set([443, callbackPort ?? 443]);
  return [
    among(groupId, connected),
    ...[...ports].flatMap((tcpPort) => anywhere.map((peer) => ({ tcpPort, peer }))),
    ...(efsGroupId === undefined ? [] : [{ tcpPort: nfsPort, peer: { group: efsGroupId } }]),
  ];
}

/** Agents always reach one another: those of containers that share a network have to, and they open to no one else. */
function among(groupId: string, connected: boolean): Rule {
  return { tcpPort: connected ? undefined : agentPort, peer: { group: groupId } };
}
