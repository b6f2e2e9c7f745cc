#!/bin/sh
# Retrain the packs over the network, over sensors, and over all signals, from the simulator. The same simulator, DBC files and seeds give the
# same bytes. Usage: models/network_packs/retrain.sh [FOLDER]   (default: models/network_packs)
# DRIVES: a folder that keeps what is simulated. One core: 7 minutes to simulate, 4 to train; 6 GB of memory.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
vehicle=$root/dbc/vehicles/cansight_ev
packs=${1:-$root/models/network_packs}
scenario=$root/models/network_packs/drives.toml

drives=${DRIVES:-}
if [ -z "$drives" ]; then
    drives=$(mktemp -d)
    trap 'rm -rf "$drives"' EXIT
    trap 'exit 130' INT TERM
fi

# All but single cells and modules, what only charging moves, and totals.
signals='VCU_*,MCU_*,EPS_*,BMS_Pack*,BMS_Limits.*,BMS_State.*,BMS_CellStatistics.*,BMS_Thermal.*,BMS_Insulation.*,BMS_Resistance.*'
signals=$signals',BMS_Estimator.*,ESP_*,BRK_*,EPB_*,SUS_*,TMS_*,DCDC_*,GW_*,ADAS_*,RAD_*,SRS_*,TPMS_*,CLIM_*,BCM_*,GNSS_Motion.*,IC_Display.*'
[ -d "$drives/ticks" ] || "$cansight" sim dataset --scenario "$scenario" --ticks --seed 21 --signals "$signals" -o "$drives/ticks"
if [ ! -d "$drives/frames" ]; then
    mkdir -p "$drives/frames"
    for vehicle_number in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do
        "$cansight" sim drive --scenario "$scenario" --seed 31 --vehicle "$vehicle_number" --duration 65s -o "$drives/frames/$vehicle_number.log"
    done
fi

# CODE, then options of `models train-joint`; the ignition gates: a car that starts, stands or charges is not known.
joint() {
    code=$1 name=$2
    shift 2
    "$cansight" models train-joint "$@" --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" --dbc "$vehicle/energy.dbc@can2" \
        --rows 60: --late --seed 1 --gate GW_Vehicle.IgnitionState --fault "$code" --name "$name" -o "$packs/$name"
}

"$cansight" models train-network "$drives"/frames/*.log --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" \
    --dbc "$vehicle/energy.dbc@can2" --catalogue "$vehicle/catalogue.toml" --seed 1 -o "$packs"
joint anomaly signals "$drives"/ticks/*.parquet --confirm 3/5
# Of the sensors' faults: what is noisy by itself cannot stand still; voltages, currents, temperatures and pressures, by what each depends on.
car='GW_Vehicle.*,MCU_Motor.*,MCU_Temperatures.*,MCU_Detail.*Temperature*,MCU_Losses.*,BMS_Pack.*,BMS_PackDetail.*,BMS_Resistance.*'
car=$car',BMS_Thermal.*,BMS_State.*,DCDC_*,BCM_LowVoltage.*,BCM_Loads.*,TMS_*,CLIM_*,ESP_*,EPS_*,TPMS_*,VCU_Powertrain.*,VCU_Energy.*'
joint sensor_stuck sensor_stuck "$drives"/ticks/*.parquet --judge still --signals "$car"
noisy='BMS_Pack.Pack*,BMS_PackDetail.Current*,BMS_PackDetail.LinkVoltage,MCU_Temperatures.*,MCU_Detail.*Temperature*,DCDC_*'
noisy=$noisy',BCM_LowVoltage.LowVoltage,BCM_LowVoltage.LowVoltageCurrent,TMS_BatteryLoop.*,TMS_BatteryPump.*,TMS_DriveLoop.*,TMS_Refrigerant.*'
joint sensor_noise sensor_noise "$drives"/ticks/*.parquet --judge noise --signals "$car" --monitor "$noisy,TMS_State.Outside*,CLIM_Cabin.*"
