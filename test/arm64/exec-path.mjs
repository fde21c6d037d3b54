// Preloaded under emulation. The kernel cannot start an Arm program by itself: children go through the wrapper too.
process.execPath = process.env.EMULATED_NODE;
