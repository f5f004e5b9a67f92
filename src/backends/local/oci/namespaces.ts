import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { NetworkPlan } from "../../driver/workload-spec.ts";
import type { OciNamespace } from "./types.ts";

/**
 * The namespaces of a container. The host process adds the network namespace's path.
 *
 * @param cgroupVersion "1": containers share the machine's cgroup namespace by default; "2": each has its own. As
 *   dockerd.
 */
export function containerNamespaces(
  given: HostConfig | undefined,
  network: NetworkPlan,
  cgroupVersion: string,
): OciNamespace[] {
  const namespaces: OciNamespace[] = [{ type: "mount" }];
  if (network.kind !== "host") {
    namespaces.push({ type: "network" });
  }
  if (given?.utsMode !== "host") {
    namespaces.push({ type: "uts" });
  }
  if (given?.pidMode !== "host") {
    namespaces.push({ type: "pid" });
  }
  if (given?.ipcMode !== "host") {
    namespaces.push({ type: "ipc" });
  }
  const cgroups =
    given?.cgroupnsMode || (cgroupVersion === "2" && given?.privileged !== true ? "private" : "host");
  if (cgroups === "private") {
    namespaces.push({ type: "cgroup" });
  }
  return namespaces;
}
