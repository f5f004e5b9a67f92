/**
 * Calls that are allowed through the Docker socket inside a container, by method of the backend; all others are
 * refused. A rule rewrites the request to IDs of visible objects, and removes everything else from the answer.
 */
import { create, type DescMethod, type Message, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { notFound } from "../../../common/errors.ts";
import { ownValue } from "../../../common/own-value.ts";
import {
  ResourcesSchema,
  type StringList,
  StringListSchema,
} from "../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerService,
  StartContainerRequestSchema,
} from "../../../gen/sockerless/backend/v1/container_pb.ts";
import { type Event, EventsService } from "../../../gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../../gen/sockerless/backend/v1/exec_pb.ts";
import { ImageService } from "../../../gen/sockerless/backend/v1/image_pb.ts";
import {
  CreateNetworkRequestSchema,
  type Network,
  NetworkService,
} from "../../../gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../../gen/sockerless/backend/v1/system_pb.ts";
import { CreateVolumeRequestSchema, VolumeService } from "../../../gen/sockerless/backend/v1/volume_pb.ts";
import { creatorLabel, creatorOf } from "../../model/inner-socket-labels.ts";
import { stateOf } from "../../model/records.ts";
import { imagesOf } from "../../state/container-table.ts";
import { removeContainer } from "../containers/remove/remove-container.ts";
import { countedAs } from "../services/info.ts";
import { allowFields, notAllowed } from "./allow-fields.ts";
import {
  admitCreation,
  admitEndpoint,
  ensureOwnVolume,
  refuseNameIn,
  refuseOthersAddresses,
  refuseTakenName,
  refuseTakenNetworkName,
  resourceFields,
} from "./creation.ts";
import { type Realm, writtenName } from "./realm.ts";

/** Filters a message of an answer; undefined: it is withheld. */
type Show<Output> = (response: Output) => Output | undefined | Promise<Output | undefined>;

/** An admitted call. */
export interface Admitted<Output extends Message = Message> {
  readonly show: Show<Output>;
}

/** Checks and rewrites a request. @throws the client's error */
export type Rule<Input extends Message = Message, Output extends Message = Message> = (
  realm: Realm,
  request: Input,
) => Admitted<Output> | undefined | Promise<Admitted<Output> | undefined>;

type Row = readonly [method: DescMethod, rule: Rule];

function row<Method extends DescMethod>(
  method: Method,
  rule: Rule<MessageShape<Method["input"]>, MessageShape<Method["output"]>>,
): Row {
  return [method, rule as unknown as Rule];
}

/** Calls about one container, which only require that it is visible. */
const ofContainer = (
  [
    ...(["stopContainer", "killContainer", "waitContainer"] as const),
    ...(["inspectContainer", "attachContainer", "describePorts", "resizeContainer", "openLogs"] as const),
    ...(["openArchive", "recordStreamUse", "pauseContainer", "unpauseContainer"] as const),
    ...(["topContainer", "openStats", "openChanges", "awaitStart"] as const),
  ] as const
).map((name) =>
  row(ContainerService.method[name], (realm, request) => {
    const named = request as { container: string };
    named.container = realm.container(named.container).id;
  }),
);

/** Calls about one exec. */
const ofExec = (["startExec", "awaitExec", "inspectExec", "resizeExec"] as const).map((name) =>
  row(ExecService.method[name], (realm, request) => {
    const { execId } = request as { execId: string };
    const exec = realm.context.state.execs.get(execId);
    if (exec === undefined || !realm.seesContainerOfId(exec.containerId)) {
      throw notFound(`No such exec instance: ${execId}`);
    }
  }),
);

const containers: readonly Row[] = [
  ...ofContainer,
  row(ContainerService.method.createContainer, async (realm, request) => {
    await admitCreation(realm, request);
    return {
      show: async (response) => {
        const made = realm.context.state.containers.get(response.id);
        if (made === undefined || !realm.seesContainer(made)) {
          throw notFound(`No such container: ${response.id}`);
        }
        // The socket's container, or the image with that name, may have changed meanwhile.
        if (!realm.isAlive || !imagesOf(made).every(realm.seesImages(made.id))) {
          await removeContainer(realm.context, made.id, { force: true, volumes: true, link: false });
          throw notFound(`No such image: ${request.config?.image}`);
        }
        return response;
      },
    };
  }),
  row(ContainerService.method.startContainer, (realm, request) => {
    allowFields(StartContainerRequestSchema, request, [
      ...(["container", "clientToken", "published", "publishFailure"] as const),
    ]);
    request.container = realm.container(request.container).id;
    realm.refuseReplacedNetworks(request.container);
  }),
  row(ContainerService.method.restartContainer, (realm, request) => {
    request.container = realm.container(request.container).id;
    realm.refuseReplacedNetworks(request.container);
  }),
  row(ContainerService.method.updateContainer, (realm, request) => {
    allowFields(ResourcesSchema, request.resources, resourceFields);
    request.container = realm.container(request.container).id;
  }),
  row(ContainerService.method.removeContainer, (realm, request) => {
    if (request.link) {
      throw notAllowed("the removal of a link");
    }
    request.container = realm.container(request.container).id;
  }),
  row(ContainerService.method.renameContainer, (realm, request) => {
    const record = realm.container(request.container);
    refuseTakenName(realm, request.name);
    refuseNameIn(realm, Object.keys(record.endpoints), request.name);
    request.container = record.id;
  }),
  row(ContainerService.method.listContainers, (realm, request) => {
    resolveFilter(request.filters, ["before", "since"], (name) => realm.container(name).id);
    const { limit } = request;
    if (limit > 0) {
      request.all = true;
      request.limit = 0;
    }
    return {
      show: (response) => {
        const seen = response.containers.filter(({ id }) => realm.seesContainerOfId(id));
        response.containers = limit > 0 ? seen.slice(0, limit) : seen;
        return response;
      },
    };
  }),
  row(ContainerService.method.pruneContainers, (realm, { filters }) => {
    onlyMade(realm, filters);
  }),
  row(ExecService.method.createExec, (realm, request) => {
    request.container = realm.container(request.container).id;
  }),
  ...ofExec,
];

const networks: readonly Row[] = [
  row(NetworkService.method.createNetwork, (realm, request) => {
    allowFields(CreateNetworkRequestSchema, request, [
      ...(["name", "driver", "internal", "attachable", "enableIpv6", "enableIpv4", "labels"] as const),
      ...(["ipamDriver", "pools", "scope"] as const),
    ]);
    refuseTakenNetworkName(realm, request.name);
    refuseOthersAddresses(realm, request.pools);
    request.labels = realm.labelsFor(request.labels);
  }),
  row(NetworkService.method.removeNetwork, (realm, request) => {
    request.network = realm.madeNetwork(request.network).id;
  }),
  row(NetworkService.method.connectNetwork, (realm, request) => {
    const container = realm.container(request.container);
    const network = realm.network(request.network);
    admitEndpoint(realm, network, request.endpoint);
    refuseNameIn(realm, [network.name], container.name);
    request.network = network.id;
    request.container = container.id;
  }),
  row(NetworkService.method.disconnectNetwork, (realm, request) => {
    request.container = realm.container(request.container).id;
    request.network = realm.network(request.network).id;
  }),
  row(NetworkService.method.inspectNetwork, (realm, request) => {
    request.network = realm.network(request.network).id;
    return {
      show: (response) => {
        if (response.network !== undefined) {
          response.network = withSeenMembers(realm, response.network);
        }
        return response;
      },
    };
  }),
  row(NetworkService.method.listNetworks, (realm) => ({
    show: (response) => {
      response.networks = response.networks
        .filter((network) => realm.seesNetwork(network))
        .map((network) => withSeenMembers(realm, network));
      return response;
    },
  })),
  row(NetworkService.method.pruneNetworks, (realm, { filters }) => {
    onlyMade(realm, filters);
  }),
];

const volumes: readonly Row[] = [
  row(VolumeService.method.createVolume, async (realm, request) => {
    allowFields(CreateVolumeRequestSchema, request, ["name", "driver", "labels"]);
    request.labels = realm.labelsFor(request.labels);
    if (request.name !== "") {
      await ensureOwnVolume(realm, request);
    }
  }),
  row(VolumeService.method.inspectVolume, (realm, { name }) => {
    realm.volume(name);
  }),
  row(VolumeService.method.removeVolume, (realm, request) => {
    const volume = realm.context.state.volumes.get(request.name);
    if (!request.force || volume !== undefined) {
      realm.volume(request.name);
    }
    request.created = volume?.created ?? timestampFromMs(0); // None has it: nor has one that is created meanwhile.
  }),
  row(VolumeService.method.listVolumes, (realm) => ({
    show: (response) => {
      response.volumes = response.volumes.filter((each) => realm.seesVolume(each));
      return response;
    },
  })),
  row(VolumeService.method.pruneVolumes, (realm, { filters }) => {
    onlyMade(realm, filters);
  }),
];

const images: readonly Row[] = [
  row(ImageService.method.pullImage, (realm, request) => {
    if (request.allTags) {
      throw notAllowed("a pull of all tags");
    }
    request.withoutOwnAuth = true;
    return {
      show: (response) => {
        if (response.message.case === "end") {
          realm.pulled.add(realm.id, response.message.value.imageId, writtenName(request.reference));
        }
        return response;
      },
    };
  }),
  row(ImageService.method.inspectImage, async (realm, request) => {
    request.image = (await realm.image(request.image, request.platform)).id;
    return {
      show: (response) => {
        hideNames(realm, response.image === undefined ? [] : [response.image]);
        return response;
      },
    };
  }),
  row(ImageService.method.getImageHistory, async (realm, request) => {
    request.image = (await realm.image(request.image, request.platform)).id;
    return {
      show: (response) => {
        const used = realm.containers().filter(({ imageId }) => imageId === request.image);
        const names = realm.namesOfImage(request.image, used);
        for (const entry of response.entries) {
          entry.tags = entry.tags.filter((tag) => names.has(tag));
        }
        return response;
      },
    };
  }),
  row(ImageService.method.listImages, async (realm, { filters }) => {
    for (const key of ["before", "since"]) {
      for (const name of ownValue(filters, key)?.values ?? []) {
        await realm.image(name);
      }
    }
    return {
      show: (response) => {
        const isSeen = realm.seesImages();
        response.images = response.images.filter(({ id }) => isSeen(id));
        hideNames(realm, response.images);
        return response;
      },
    };
  }),
  row(ImageService.method.pruneImages, (_realm, { filters }) => {
    // A socket makes no images, so it has none to prune: these two exclude each other.
    addLabelFilter(filters, "label", creatorLabel);
    addLabelFilter(filters, "label!", creatorLabel);
  }),
];

const system: readonly Row[] = [
  row(SystemService.method.getCapabilities, () => {}),
  row(SystemService.method.authenticate, () => {}),
  row(SystemService.method.getInfo, (realm) => ({
    show: (response) => {
      const seen = realm.containers();
      const count = (as: ReturnType<typeof countedAs>): number =>
        seen.filter((record) => countedAs(stateOf(record).status) === as).length;
      response.containersRunning = count("running");
      response.containersPaused = count("paused");
      response.containersStopped = count("stopped");
      response.images = [...realm.context.state.images.keys()].filter(realm.seesImages()).length;
      response.eventsListeners = 0;
      response.driverStatus = [];
      response.warnings = [];
      response.insecureRegistries = [];
      response.rootDir = "";
      response.pool = "";
      return response;
    },
  })),
  row(SystemService.method.getDiskUsage, (realm) => ({
    show: (response) => {
      response.containers = response.containers.filter(({ id }) => realm.seesContainerOfId(id));
      const isImageSeen = realm.seesImages();
      response.volumes = response.volumes.filter(
        ({ volume }) => volume !== undefined && realm.seesVolume(volume),
      );
      response.images = response.images.filter(({ id }) => isImageSeen(id));
      hideNames(realm, response.images);
      response.layersSize = response.images.reduce((sum, { size }) => sum + size, 0n);
      return response;
    },
  })),
];

const events: readonly Row[] = [
  row(EventsService.method.subscribeEvents, (realm) => {
    const isShown = eventsOf(realm);
    return {
      show: (response) =>
        response.message.case !== "event" || isShown(response.message.value) ? response : undefined,
    };
  }),
];

const rules: ReadonlyMap<string, Rule> = new Map(
  [...containers, ...networks, ...volumes, ...images, ...system, ...events].map(([method, rule]) => [
    nameOf(method),
    rule,
  ]),
);

/** The rule of a method. @throws forbidden if there is none */
export function ruleOf(method: DescMethod): Rule {
  const rule = rules.get(nameOf(method));
  if (
    rule === undefined ||
    method.methodKind === "client_streaming" ||
    method.methodKind === "bidi_streaming"
  ) {
    throw notAllowed(method.name);
  }
  return rule;
}

function nameOf({ parent, name }: DescMethod): string {
  return `${parent.typeName}/${name}`;
}

function resolveFilter(
  filters: Record<string, StringList>,
  keys: readonly string[],
  resolve: (name: string) => string,
): void {
  for (const key of keys) {
    const list = ownValue(filters, key);
    if (list !== undefined) {
      list.values = list.values.map(resolve);
    }
  }
}

/** Restricts a prune to objects created through the socket. */
function onlyMade(realm: Realm, filters: Record<string, StringList>): void {
  addLabelFilter(filters, "label", `${creatorLabel}=${realm.id}`);
}

function addLabelFilter(filters: Record<string, StringList>, key: "label" | "label!", value: string): void {
  filters[key] = create(StringListSchema, { values: [...(ownValue(filters, key)?.values ?? []), value] });
}

/** A network with only the visible ones of its containers. */
function withSeenMembers(realm: Realm, network: Network): Network {
  const seen = Object.entries(network.containers).filter(([id]) => realm.seesContainerOfId(id));
  return { ...network, containers: Object.fromEntries(seen) };
}

interface NamedImage {
  readonly id: string;
  repoTags: string[];
  repoDigests: string[];
  containers?: bigint;
}

/** Removes the names that others gave images. */
function hideNames(realm: Realm, images: readonly NamedImage[]): void {
  const containersOf = Map.groupBy(realm.containers(), ({ imageId }) => imageId);
  for (const image of images) {
    const used = containersOf.get(image.id) ?? [];
    const names = realm.namesOfImage(image.id, used);
    const repositories = new Set([...names].map((name) => name.replace(/[:@][^/]*$/, "")));
    if (image.containers !== undefined && image.containers >= 0n) {
      image.containers = BigInt(used.length);
    }
    image.repoTags = image.repoTags.filter((tag) => names.has(tag));
    image.repoDigests = image.repoDigests.filter((digest) => repositories.has(digest.replace(/@.*$/, "")));
  }
}

/**
 * Creates the filter of visible events, which must be called for all events in order. Events of images are not visible.
 */
function eventsOf(realm: Realm): (event: Event) => boolean {
  const { state } = realm.context;
  const known = new Set([
    ...realm.containers().map(({ id }) => id),
    ...realm.networks().flatMap(({ network }) => (realm.hasMade(network.labels) ? [network.id] : [])),
    ...realm.volumes().map(({ name }) => name),
  ]);
  const isMade = ({ type, actorId, attributes }: Event): boolean => {
    switch (type) {
      case "container":
        return actorId === realm.id || creatorOf(attributes) === realm.id;
      case "network":
        return realm.hasMade(state.networks.get(actorId)?.network?.labels ?? {});
      case "volume":
        return realm.seesVolumeOfName(actorId);
      default:
        return false;
    }
  };
  return (event) => {
    const { container } = event.attributes;
    if (event.type !== "container" && container !== undefined) {
      return known.has(container); // The container has joined a network, or mounted a volume.
    }
    if (isMade(event)) {
      known.add(event.actorId);
    }
    return known.has(event.actorId);
  };
}
