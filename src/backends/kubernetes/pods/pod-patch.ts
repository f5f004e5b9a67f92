/**
 * Strategic merge patches of pods, as `kubectl patch` has them: objects are merged, null takes a field away, and lists whose
 * items have a key are merged by it (the `patchMergeKey` of the API's types). Other lists are replaced.
 */
import type { V1Pod } from "@kubernetes/client-node";

/** The key of each list's items. `volumeMounts`, `volumeDevices` and `ports` are lists of containers. */
const mergeKeys: Readonly<Record<string, string>> = {
  containers: "name",
  initContainers: "name",
  volumes: "name",
  env: "name",
  volumeMounts: "mountPath",
  volumeDevices: "devicePath",
  ports: "containerPort",
  imagePullSecrets: "name",
  hostAliases: "ip",
  topologySpreadConstraints: "topologyKey",
  resourceClaims: "name",
  schedulingGates: "name",
};
const directive = "$patch";

type Fields = Readonly<Record<string, unknown>>;

/** A pod with a patch. */
export function mergePatch(pod: V1Pod, patch: Fields): V1Pod {
  return mergeFields(pod as unknown as Fields, patch) as unknown as V1Pod;
}

function mergeFields(fields: Fields, patch: Fields): Fields {
  if (patch[directive] === "replace") {
    const { [directive]: _directive, ...rest } = patch;
    return rest;
  }
  const merged: Record<string, unknown> = { ...fields };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete merged[name];
    } else {
      merged[name] = mergeValue(name, merged[name], value);
    }
  }
  return merged;
}

function mergeValue(name: string, before: unknown, patch: unknown): unknown {
  const key = mergeKeys[name];
  if (Array.isArray(patch) && Array.isArray(before) && key !== undefined) {
    return mergeItems(key, before.filter(isFields), patch.filter(isFields));
  }
  return isFields(patch) ? mergeFields(isFields(before) ? before : {}, patch) : patch;
}

function mergeItems(key: string, before: readonly Fields[], patch: readonly Fields[]): readonly Fields[] {
  if (patch.some((item) => item[directive] === "replace" && item[key] === undefined)) {
    return patch.filter((item) => item[directive] === undefined);
  }
  let items = before;
  for (const item of patch) {
    const isSame = (other: Fields): boolean => other[key] === item[key];
    if (item[directive] === "delete") {
      items = items.filter((other) => !isSame(other));
    } else if (items.some(isSame)) {
      items = items.map((other) => (isSame(other) ? mergeFields(other, item) : other));
    } else {
      items = [...items, item];
    }
  }
  return items;
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
