-- Connections that were taken for dead with their node: a node that was only late looks here for its own.
CREATE INDEX device_link_mistaken ON device_link (node_id) WHERE NOT connected AND cause = 'cloud_restart';
