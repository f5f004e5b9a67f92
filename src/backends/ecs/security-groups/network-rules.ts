/** What the security group of a network lets through. Pure. */
import { AGENT_PORT } from "../agent-port.ts";
import { nfsPort, type Rule } from "./rules.ts";

/** The kinds of networks that have a group of their own. */
export type GroupKind =
  /** Containers reach one another and the world. */
  | "open"
  /** Containers reach one another, and what Fargate itself needs. */
  | "internal"
  /** Containers reach what Fargate itself needs. */
  | "none";

/** What rules depend on. */
export interface RuleContext {
  readonly groupId: string;
  /** Who may reach agents. */
  readonly agentPeers: readonly Rule["peer"][];
  /** Group of the file system's mount targets. */
  readonly efsGroupId: string | undefined;
}

const anywhere = { cidr: "0.0.0.0/0" } as const;

/** What a group lets in. */
export function ingressRules(kind: GroupKind, { groupId, agentPeers }: RuleContext): Rule[] {
  const among: Rule[] = kind === "none" ? [] : [{ tcpPort: undefined, peer: { group: groupId } }];
  return [...among, ...agentPeers.map((peer) => ({ tcpPort: AGENT_PORT, peer }))];
}

/**
 * What a group lets out that does not lead everywhere. A task's image is pulled and its log written through the task's
 * own interface, so HTTPS has to stay open on networks that lead nowhere.
 */
export function egressRules(kind: Exclude<GroupKind, "open">, { groupId, efsGroupId }: RuleContext): Rule[] {
  return [
    ...(kind === "internal" ? [{ tcpPort: undefined, peer: { group: groupId } }] : []),
    { tcpPort: 443, peer: anywhere },
    ...(efsGroupId === undefined ? [] : [{ tcpPort: nfsPort, peer: { group: efsGroupId } }]),
  ];
}
