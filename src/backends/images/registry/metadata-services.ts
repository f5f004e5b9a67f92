import { BlockList } from "node:net";

/**
 * Addresses at which clouds give a machine its credentials: a user of the API must not get the backend's own. They
 * speak HTTP without TLS only, so that connections with TLS need no check; a proxy of the environment may make them.
 */
export const metadataServices = new BlockList();
metadataServices.addSubnet("169.254.0.0", 16, "ipv4");
metadataServices.addSubnet("fe80::", 10, "ipv6");
metadataServices.addSubnet("fd00:ec2::", 32, "ipv6");
metadataServices.addSubnet("fd20:ce::", 32, "ipv6"); // Google Cloud
metadataServices.addAddress("100.100.100.200", "ipv4"); // Alibaba Cloud
metadataServices.addAddress("168.63.129.16", "ipv4"); // Azure: the agent of a machine, on 80 and 32526.
