/** Rules of a network's security group. Pure. */
import { agentPort } from "../../cloud/agents/agent-port.ts";
import { nfsPort, type Rule } from "./rules.ts";

/** Facts that the rules of a group depend on. */
export interface RuleContext {
  readonly groupId: string;
  /** Whether containers reach each other. */
  readonly connected: boolean;
  /** Peers with access to agents. */
  readonly agentPeers: readonly Rule["peer"][];
  /** Group of the file system's mount targets. */
  readonly efsGroupId: string | undefined;
  /** TCP port at which agents call the backend; undefined if they are dialled. */
  readonly callbackPort: number | undefined;
}

const anywhere = [{ cidr: "0.0.0.0/0" }, { cidr: "::/0" }] as const;

/** The ingress rules of a network's group. */
export function ingressRules({ groupId, connected, agentPeers }: RuleContext): Rule[] {
  return [among(groupId, connected), ...agentPeers.map((peer) => ({ tcpPort: agentPort, peer }))];
}

/**
 * The egress rules of a network without access to the Internet. A task pulls its image and writes its log through its
 * own interface, so HTTPS stays open; and so does access to a backend that agents call.
 */
export function egressRules({ groupId, connected, efsGroupId, callbackPort }: RuleContext): Rule[] {
  const ports = new Set([443, callbackPort ?? 443]);
  return [
    among(groupId, connected),
    ...[...ports].flatMap((tcpPort) => anywhere.map((peer) => ({ tcpPort, peer }))),
    ...(efsGroupId === undefined ? [] : [{ tcpPort: nfsPort, peer: { group: efsGroupId } }]),
  ];
}

/** Agents always reach each other, as those of containers that share a network must; they admit no one else. */
function among(groupId: string, connected: boolean): Rule {
  return { tcpPort: connected ? undefined : agentPort, peer: { group: groupId } };
}
