/** Volumes: anonymous ones are directories of the container that has them. Named ones would be claims, and are not built yet. */
import { notImplemented } from "../../common/errors.ts";
import type { VolumeRules, VolumeStore } from "../driver/volumes.ts";
import { neverShort, nothingFound, partsReady } from "../driver/ready-made-roles.ts";

const rules: VolumeRules = {
  drivers: [{ name: "local", sharing: "shared", content: "here" }],
  usedBy: "running",
  forceOnUsed: "refuse",
};

/** The volumes of this backend. No call of it reaches the cluster. */
export const kubernetesVolumes: VolumeStore = {
  rules,
  parts: partsReady,
  found: nothingFound,
  watchRoom: neverShort,
  create({ anonymous, name }) {
    if (!anonymous) {
      throw notImplemented(
        `sockerless: create ${name}: named volumes are not implemented by backend "kubernetes"`,
      );
    }
    return Promise.resolve({
      reference: "",
      mountpoint: `/var/lib/docker/volumes/${name}/_data`,
      status: {},
    });
  },
  remove: () => Promise.resolve(),
};
