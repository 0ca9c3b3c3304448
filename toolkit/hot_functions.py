"""What verbs usually call. scripts/hot-functions writes this.

images_of_verbs.py leaves the other functions out. One that is missing here costs some 20 us when it is called, and one
too many what its code takes to load; neither is an error.
"""

MODULES = {
    "create":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.beneath "
        "toolkit.kernel.capabilities toolkit.kernel.host toolkit.kernel.libc toolkit.kernel.mountinfo "
        "toolkit.kernel.mounts toolkit.kernel.namespaces toolkit.kernel.native toolkit.kernel.ours "
        "toolkit.kernel.process toolkit.kernel.program toolkit.kernel.program.interpreter_code "
        "toolkit.kernel.program.program toolkit.kernel.program.routine toolkit.kernel.program.structures "
        "toolkit.kernel.reading toolkit.kernel.roots toolkit.lean_os toolkit.oci toolkit.oci.check "
        "toolkit.oci.check_linux toolkit.oci.check_process toolkit.oci.check_resources toolkit.oci.check_seccomp "
        "toolkit.oci.json_text toolkit.oci.schema toolkit.places toolkit.preload toolkit.runtime "
        "toolkit.runtime.argv toolkit.runtime.cgroup_mount toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.devices toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer "
        "toolkit.runtime.cgroups.layout toolkit.runtime.cgroups.limits toolkit.runtime.cgroups.v1 "
        "toolkit.runtime.conversation toolkit.runtime.credentials toolkit.runtime.devices "
        "toolkit.runtime.devices_program toolkit.runtime.directories toolkit.runtime.ending "
        "toolkit.runtime.entering toolkit.runtime.executable toolkit.runtime.finish toolkit.runtime.first_process "
        "toolkit.runtime.handover toolkit.runtime.identity toolkit.runtime.launch toolkit.runtime.log "
        "toolkit.runtime.main toolkit.runtime.mount_options toolkit.runtime.mounting "
        "toolkit.runtime.mounting_program toolkit.runtime.new_root toolkit.runtime.options "
        "toolkit.runtime.outside toolkit.runtime.plan toolkit.runtime.preparation toolkit.runtime.record "
        "toolkit.runtime.seccomp toolkit.runtime.shielding toolkit.runtime.site toolkit.runtime.spawn "
        "toolkit.runtime.steps toolkit.runtime.stops toolkit.runtime.verbs toolkit.runtime.verbs.create "
        "toolkit.text",
    "delete":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.record toolkit.runtime.removal toolkit.runtime.signals "
        "toolkit.runtime.stops toolkit.runtime.verbs toolkit.runtime.verbs.delete toolkit.text",
    "events":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.stats toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log "
        "toolkit.runtime.main toolkit.runtime.options toolkit.runtime.record toolkit.runtime.verbs "
        "toolkit.runtime.verbs.events toolkit.text",
    "exec":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.capabilities "
        "toolkit.kernel.libc toolkit.kernel.mountinfo toolkit.kernel.mounts toolkit.kernel.namespaces "
        "toolkit.kernel.ours toolkit.kernel.process toolkit.kernel.program "
        "toolkit.kernel.program.interpreter_code toolkit.kernel.program.program toolkit.kernel.program.structures "
        "toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.check toolkit.oci.check_process "
        "toolkit.oci.json_text toolkit.oci.schema toolkit.places toolkit.preload toolkit.runtime "
        "toolkit.runtime.argv toolkit.runtime.cgroups toolkit.runtime.cgroups.files "
        "toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout toolkit.runtime.cgroups.v1 "
        "toolkit.runtime.conversation toolkit.runtime.credentials toolkit.runtime.ending toolkit.runtime.entering "
        "toolkit.runtime.executable toolkit.runtime.finish toolkit.runtime.foreground toolkit.runtime.handover "
        "toolkit.runtime.identity toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.outside toolkit.runtime.preparation toolkit.runtime.record "
        "toolkit.runtime.seccomp toolkit.runtime.spawn toolkit.runtime.stops toolkit.runtime.verbs "
        "toolkit.runtime.verbs.exec toolkit.text",
    "kill":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.record toolkit.runtime.removal toolkit.runtime.signals "
        "toolkit.runtime.verbs toolkit.runtime.verbs.kill toolkit.text",
    "list":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.oci.state toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv "
        "toolkit.runtime.cgroups toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer "
        "toolkit.runtime.cgroups.layout toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log "
        "toolkit.runtime.main toolkit.runtime.options toolkit.runtime.record toolkit.runtime.verbs "
        "toolkit.runtime.verbs.list toolkit.runtime.verbs.state toolkit.text",
    "pause":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.record toolkit.runtime.removal toolkit.runtime.verbs "
        "toolkit.runtime.verbs.pause toolkit.text",
    "ps":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.record toolkit.runtime.verbs toolkit.runtime.verbs.ps "
        "toolkit.text",
    "resume":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.record toolkit.runtime.removal toolkit.runtime.verbs "
        "toolkit.runtime.verbs.resume toolkit.text",
    "run":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.beneath "
        "toolkit.kernel.capabilities toolkit.kernel.host toolkit.kernel.libc toolkit.kernel.mountinfo "
        "toolkit.kernel.mounts toolkit.kernel.namespaces toolkit.kernel.native toolkit.kernel.ours "
        "toolkit.kernel.process toolkit.kernel.program toolkit.kernel.program.interpreter_code "
        "toolkit.kernel.program.program toolkit.kernel.program.routine toolkit.kernel.program.structures "
        "toolkit.kernel.reading toolkit.kernel.roots toolkit.lean_os toolkit.oci toolkit.oci.check "
        "toolkit.oci.check_linux toolkit.oci.check_process toolkit.oci.check_resources toolkit.oci.check_seccomp "
        "toolkit.oci.json_text toolkit.oci.schema toolkit.places toolkit.preload toolkit.runtime "
        "toolkit.runtime.argv toolkit.runtime.cgroup_mount toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.devices toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer "
        "toolkit.runtime.cgroups.layout toolkit.runtime.cgroups.limits toolkit.runtime.cgroups.v1 "
        "toolkit.runtime.conversation toolkit.runtime.credentials toolkit.runtime.devices "
        "toolkit.runtime.devices_program toolkit.runtime.directories toolkit.runtime.ending "
        "toolkit.runtime.entering toolkit.runtime.executable toolkit.runtime.finish toolkit.runtime.first_process "
        "toolkit.runtime.foreground toolkit.runtime.handover toolkit.runtime.identity toolkit.runtime.launch "
        "toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main toolkit.runtime.mount_options "
        "toolkit.runtime.mounting toolkit.runtime.mounting_program toolkit.runtime.new_root "
        "toolkit.runtime.options toolkit.runtime.outside toolkit.runtime.plan toolkit.runtime.preparation "
        "toolkit.runtime.record toolkit.runtime.removal toolkit.runtime.seccomp toolkit.runtime.session "
        "toolkit.runtime.shielding toolkit.runtime.site toolkit.runtime.spawn toolkit.runtime.steps "
        "toolkit.runtime.stops toolkit.runtime.verbs toolkit.runtime.verbs.run toolkit.text",
    "start":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log toolkit.runtime.main "
        "toolkit.runtime.options toolkit.runtime.record toolkit.runtime.stops toolkit.runtime.verbs "
        "toolkit.runtime.verbs.start toolkit.text",
    "state":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.json_text "
        "toolkit.oci.state toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv "
        "toolkit.runtime.cgroups toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer "
        "toolkit.runtime.cgroups.layout toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log "
        "toolkit.runtime.main toolkit.runtime.options toolkit.runtime.record toolkit.runtime.verbs "
        "toolkit.runtime.verbs.state toolkit.text",
    "update":
        "toolkit toolkit.__main__ toolkit.errors toolkit.kernel toolkit.kernel.atomic toolkit.kernel.mountinfo "
        "toolkit.kernel.ours toolkit.kernel.reading toolkit.lean_os toolkit.oci toolkit.oci.check "
        "toolkit.oci.check_process toolkit.oci.check_resources toolkit.oci.json_text toolkit.oci.schema "
        "toolkit.places toolkit.preload toolkit.runtime toolkit.runtime.argv toolkit.runtime.cgroups "
        "toolkit.runtime.cgroups.files toolkit.runtime.cgroups.freezer toolkit.runtime.cgroups.layout "
        "toolkit.runtime.cgroups.limits toolkit.runtime.cgroups.v1 toolkit.runtime.lifecycle toolkit.runtime.log "
        "toolkit.runtime.main toolkit.runtime.options toolkit.runtime.record toolkit.runtime.removal "
        "toolkit.runtime.verbs toolkit.runtime.verbs.update toolkit.text",
}  # fmt: skip
"""The modules that are loaded, by verb."""

FUNCTIONS = {
    "toolkit.__main__": "_fill_standard_descriptors main",
    "toolkit.errors":
        "ArchiveError BuildFailed CtkError HostLacks InUse Interrupted Invalid LaunchFailed Malformed NotFound "
        "SystemCall Unreachable Unsolvable Untrusted Usage",
    "toolkit.kernel.atomic":
        "Writing Writing.__enter__ Writing.__exit__ Writing.__init__ Writing.close Writing.name Writing.take "
        "beside replace write",
    "toolkit.kernel.beneath": "emit_open",
    "toolkit.kernel.capabilities": "last mask",
    "toolkit.kernel.host": "HostFacts HostFacts.__getattr__ _in_user_namespace read",
    "toolkit.kernel.libc": "buffer number numbers syscall",
    "toolkit.kernel.mountinfo": "read unescaped",
    "toolkit.kernel.mounts": "place_of",
    "toolkit.kernel.native": "_Syscall c_char c_long c_void_p",
    "toolkit.kernel.ours": "NotOurs _open _replaceable check open_folder",
    "toolkit.kernel.process": "pidfd_open prctl start_time stat_fields",
    "toolkit.kernel.program.program":
        "Cell Cell.__init__ Label Label.__init__ Program Program.__init__ Program._encoded Program._retry "
        "Program.again Program.aside Program.call Program.cell Program.data Program.fail Program.finish "
        "Program.go Program.go_to Program.image Program.owned_by Program.owner Program.place Program.placed "
        "Program.room Program.set_label Program.strings Program.text Program.told Program.warn Program.when "
        "Program.words _headers sealed",
    "toolkit.kernel.program.routine":
        "Routine Routine.__init__ Routine._known Routine._write Routine.back Routine.call Routine.call_in_place "
        "Routine.fail",
    "toolkit.kernel.program.structures": "stat",
    "toolkit.kernel.reading": "check open_file read whole",
    "toolkit.kernel.roots": "is_own",
    "toolkit.lean_os":
        "_Environment _Environment.pop _abspath _exists _isdir _join _more_of_paths _normpath fsencode",
    "toolkit.oci.check": "Finding _types errors findings resource_errors",
    "toolkit.oci.check_linux":
        "_has cgroups_path deadline_and_cpus devices intel_rdt mappings memory_policy mount_label namespaces "
        "net_devices paths personality propagation resources seccomp sysctls time_offsets",
    "toolkit.oci.check_process":
        "_rlimits _user annotations hooks host_names mounts process process_present root version",
    "toolkit.oci.check_resources": "_block_io _huge_pages _memory resources",
    "toolkit.oci.check_seccomp": "_action _errno seccomp",
    "toolkit.oci.json_text": "_DecodeError _Settings _Strict _indented dumps indented loads",
    "toolkit.oci.state": "state",
    "toolkit.places": "_is_user cache_dir runtime_root",
    "toolkit.preload":
        "_Finder _Finder.__init__ _Finder.create_module _Finder.exec_module _Finder.find_spec _code_of _fresh "
        "_group _load _read _waking begin hold load stale",
    "toolkit.runtime.argv": "HelpWanted WrongOption _parse _set integer parse_global parse_verb",
    "toolkit.runtime.cgroup_mount":
        "JoinCgroup JoinCgroup.__init__ JoinCgroup.emit MountCgroup MountCgroup.__init__ MountCgroup._emit_bind "
        "MountCgroup._emit_per_controller MountCgroup.emit",
    "toolkit.runtime.cgroups": "_files_from_facts _from_facts from_facts manager",
    "toolkit.runtime.cgroups.devices": "_apply describe letters settle writes_v1",
    "toolkit.runtime.cgroups.files":
        "Entry Entry.__init__ Entry.close Entry.descriptors Entry.emit _subfolders carry_out get make_directory "
        "pids put put_all remove_all tree",
    "toolkit.runtime.cgroups.freezer": "freeze frozen thaw thaw_tree",
    "toolkit.runtime.cgroups.layout": "_lines_with clean hierarchies is_v2 own visible",
    "toolkit.runtime.cgroups.limits": "_hugetlb _memory_v1 _pids _rdma plan_v1",
    "toolkit.runtime.cgroups.stats":
        "_blkio_table _blkio_v1 _compact _cpu_v1 _cpuset_v1 _hugetlb_v1 _memory_entry _memory_v1 _no_cpuset "
        "_number _pairs _pids _range _result _text _usage of_v1",
    "toolkit.runtime.cgroups.v1":
        "Manager Manager.__init__ Manager._devices Manager._fill_cpuset Manager._folder Manager._freezer "
        "Manager.apply Manager.apply_devices Manager.create Manager.delegate Manager.delete Manager.entry "
        "Manager.facts Manager.freeze Manager.frozen Manager.kill Manager.let_end Manager.mount_links "
        "Manager.mounts Manager.pids Manager.reference Manager.stats Manager.thaw Manager.update make",
    "toolkit.runtime.conversation":
        "Conversation Conversation.__init__ Conversation._beside Conversation._next Conversation.close "
        "Conversation.go Conversation.hear Conversation.hear_end Conversation.hear_pid Conversation.say "
        "_read_exactly pair",
    "toolkit.runtime.credentials":
        "Capabilities Capabilities.__init__ Capabilities._word Capabilities.drop_bounding Capabilities.set "
        "Capabilities.set_ambient Capabilities.warn _become_user _enter_directory _walk_up apply",
    "toolkit.runtime.devices":
        "LinkDevices LinkDevices.__init__ LinkDevices.emit MakeDevices MakeDevices.__init__ MakeDevices.emit",
    "toolkit.runtime.devices_program":
        "_Otherwise _Otherwise.__init__ _Otherwise._write _Otherwise.call _find_whose _make _owner emit "
        "emit_links",
    "toolkit.runtime.directories":
        "Directories Directories.__init__ Directories._follow Directories._made Directories._make_directory "
        "Directories._make_file Directories.make Directories.make_file Directories.make_if_writable "
        "Directories.open _append",
    "toolkit.runtime.ending": "Ending Ending.__init__ Ending.kept Ending.label",
    "toolkit.runtime.entering":
        "Entrance Entrance.__init__ Entrance.close Entrance.descriptors Entrance.emit begin clone differing enter "
        "hear_pid start",
    "toolkit.runtime.executable": "Found Found.__init__ Found.put _examine find_home needs_home search",
    "toolkit.runtime.finish": "_set_rlimits emit environment folder_has_files hear of_launch say set_streams",
    "toolkit.runtime.first_process":
        "_container_streams _loopback_up _new_keyring _spawn _tell_root _written_to emit open_joins start",
    "toolkit.runtime.foreground": "become_subreaper reap wait",
    "toolkit.runtime.handover":
        "Filter Filter.__init__ Filter.load Handover Handover.__init__ _tell _wait close emit",
    "toolkit.runtime.identity":
        "Identity Identity.__init__ Identity.filter_is_late Identity.known _hard_limits raise_rlimits "
        "set_affinity shape",
    "toolkit.runtime.launch":
        "Launch Launch.__init__ _check_terminal _ending _handshake _is_rootless _parent_handshake _planned "
        "_start_child cgroup_manager check_root create read_bundle",
    "toolkit.runtime.lifecycle": "alive frozen of_this_boot process_facts require status",
    "toolkit.runtime.log": "configure debug debugging out program_name write",
    "toolkit.runtime.main": "_carry_out _exit _start_log main settle",
    "toolkit.runtime.mount_options": "Options Options.__init__ Options.attributes Options.of_a_bind parse settings",
    "toolkit.runtime.mounting":
        "FinishReadOnly Mount Mount.__init__ Mount.emit Mount.is_bind Mount.read_only_at_the_end",
    "toolkit.runtime.mounting_program":
        "_bind _file_target _finish _mount _mount_detached _new _open_source _plain_directory _refuse_proc "
        "_set_flags _target emit owner set_attributes",
    "toolkit.runtime.new_root":
        "EnterRoot EnterRoot.__init__ EnterRoot.emit MakeRootReadOnly MakeRootReadOnly.__init__ "
        "MakeRootReadOnly.emit OpenRoot PrepareRoot PrepareRoot.__init__ PrepareRoot.emit SetRootPropagation "
        "_leave_again _leave_chroot",
    "toolkit.runtime.options": "Options Options.__init__ Options.take Options.value",
    "toolkit.runtime.outside": "hold_signals write_oom_score write_pid_file",
    "toolkit.runtime.plan":
        "LaunchPlan LaunchPlan.__init__ LaunchPlan.own_mounts _destinations _dev_is_bound _mounts _namespaces "
        "_root_prepared _settings _shields maps_ids name_host plan root_path",
    "toolkit.runtime.preparation": "console_step listening open_label_proc prepare_seccomp preserved reset_affinity",
    "toolkit.runtime.record":
        "Record Record.__init__ Record._replace Record.config Record.config_path Record.config_text "
        "Record.fifo_path Record.lock Record.make_fifo Record.reload Record.remove Record.save Record.save_config "
        "Record.unlock _check_shared _read_facts _remove_folder _stamp _state _take_facts boot_id check_id ids "
        "load now open_root reserve",
    "toolkit.runtime.removal": "_end_checkpoint _poststop_hooks delete destroy kill let_end lock",
    "toolkit.runtime.seccomp": "Program Program.__init__ _load _name _open_own _source _with_listener program_for",
    "toolkit.runtime.session": "begin by_hand leave remove stay wait",
    "toolkit.runtime.shielding":
        "MakeReadOnly MakeReadOnly.__init__ MakeReadOnly.emit Mask Mask.__init__ Mask.emit _cover _open_null",
    "toolkit.runtime.signals": "open_init parse send wait_for_end",
    "toolkit.runtime.site": "Site Site.__init__ Site._within_proc Site.device Site.mode Site.stat Words",
    "toolkit.runtime.spawn": "Prepared Prepared.__init__ create_cgroup joins_user sealed_program takes_two_steps",
    "toolkit.runtime.steps":
        "AwaitHooks MakeWorkingDirectory SetNames SetNames.__init__ SetNames.emit SetSysctl Step Step.__init__",
    "toolkit.runtime.stops": "break_off emit passed",
    "toolkit.runtime.verbs.create": "run",
    "toolkit.runtime.verbs.delete": "run",
    "toolkit.runtime.verbs.events": "_tell run",
    "toolkit.runtime.verbs.exec":
        "_check _check_status _handshake _joins_by_itself _place _process _terminal_socket run",
    "toolkit.runtime.verbs.kill": "_own_pid_namespace run",
    "toolkit.runtime.verbs.list": "_owner run table",
    "toolkit.runtime.verbs.pause": "run",
    "toolkit.runtime.verbs.ps": "_output _select run",
    "toolkit.runtime.verbs.resume": "run",
    "toolkit.runtime.verbs.run": "run",
    "toolkit.runtime.verbs.start": "_startable release run",
    "toolkit.runtime.verbs.state": "document run",
    "toolkit.runtime.verbs.update": "from_options run",
    "toolkit.text": "in_json one_line printable quote",
}  # fmt: skip
"""The functions that are called by one of these verbs, by module."""
