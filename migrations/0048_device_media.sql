-- What a camera does when asked (its hello's `can`), how far apart its key frames are where they cannot be asked for, and what a gateway's way to the cloud was measured to carry.
ALTER TABLE device_status ADD COLUMN can_keyframe boolean NOT NULL DEFAULT true;
ALTER TABLE device_status ADD COLUMN can_bitrate boolean NOT NULL DEFAULT true;
ALTER TABLE device_status ADD COLUMN gop_ms integer;
ALTER TABLE device_status ADD COLUMN uplink_bps bigint;
ALTER TABLE device_status ADD COLUMN uplink_lost_percent integer;
ALTER TABLE device_status ADD COLUMN uplink_rtt_ms integer;
ALTER TABLE device_status ADD COLUMN uplink_at timestamptz;
