#!/bin/sh
# Retrain the packs over the network, over sensors, and over all signals, from the simulator. The same simulator, DBC files and seeds give the
# same bytes. Usage: models/network_packs/retrain.sh [FOLDER]   (default: models/network_packs)
# DRIVES: a folder that keeps what is simulated. One core: 3 minutes to simulate, 3 to train; 9 GB of memory.
set -eu
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 # with more, sums are made in another order, and the last digits differ
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

# All but single cells and modules, what only charging moves, and a trip's totals.
signals='MCU_*,EPS_*,BMS_Pack*,BMS_Limits.*,BMS_State.*,BMS_CellStatistics.*,BMS_Thermal.*,BMS_Insulation.*,BMS_Resistance.*,BMS_Estimator.*'
signals=$signals',ESP_*,BRK_*,EPB_*,SUS_*,TMS_*,DCDC_*,GW_*,ADAS_*,RAD_*,SRS_*,TPMS_*,CLIM_*,BCM_*,GNSS_Motion.*'
[ -d "$drives/ticks" ] || "$cansight" sim dataset --scenario "$root/models/packs/drives.toml" --vehicles 300 --drives --cut 300/4200 --days 6 \
    --seed 21 --signals "$signals,VCU_[!T]*,IC_Display.*" -o "$drives/ticks"
# Single drives, with batteries colder and hotter than a calendar brings.
[ -d "$drives/single" ] || "$cansight" sim dataset --scenario "$scenario" --ticks --vehicles 450 --seed 21 \
    --signals "$signals,VCU_[!T]*,IC_Display.*" -o "$drives/single"
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
        --late --seed 1 --gate GW_Vehicle.IgnitionState --fault "$code" --name "$name" -o "$packs/$name"
}

"$cansight" models train-network "$drives"/frames/*.log --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" \
    --dbc "$vehicle/energy.dbc@can2" --catalogue "$vehicle/catalogue.toml" --seed 1 -o "$packs"
# Means over a trip begin anew with it, and say nothing of the moment. What decides how the car is cooled, and what its limits are, hardly ever
# leaves its place, and is known only where training has seen it. The margins were chosen on healthy months of other cars (docs/network.md).
known='TMS_DriveLoop.*,TMS_Radiator.*,TMS_Detail.*,MCU_Torque.TorqueAvailable*,BMS_PackDetail.*Temperature,BMS_Insulation.*Temperature'
joint anomaly signals "$drives"/ticks/vehicle-0[01]*.parquet "$drives"/single/*.parquet --confirm 3/5 --margin 4 --gate "$known" \
    --signals "$signals,VCU_[!TE]*,VCU_EnergyFlow.*,VCU_Energy.[!A]*,IC_Display.DisplayedSpeed"
# Of the sensors' faults: what is noisy by itself cannot stand still; voltages, currents, temperatures and pressures, by what each depends on.
car='GW_Vehicle.*,MCU_Motor.*,MCU_Temperatures.*,MCU_Detail.*Temperature*,MCU_Losses.*,BMS_Pack.*,BMS_PackDetail.*,BMS_Resistance.*'
car=$car',BMS_Thermal.*,BMS_State.*,DCDC_*,BCM_LowVoltage.*,BCM_Loads.*,TMS_*,CLIM_*,ESP_*,EPS_*,TPMS_*,VCU_Powertrain.*,VCU_Energy.*'
joint sensor_stuck sensor_stuck "$drives"/ticks/*.parquet --judge still --margin 8 --signals "$car"
noisy='BMS_Pack.Pack*,BMS_PackDetail.Current*,BMS_PackDetail.LinkVoltage,MCU_Temperatures.*,MCU_Detail.*Temperature*,DCDC_*'
noisy=$noisy',BCM_LowVoltage.LowVoltage,BCM_LowVoltage.LowVoltageCurrent,TMS_BatteryLoop.*,TMS_BatteryPump.*,TMS_DriveLoop.*,TMS_Refrigerant.*'
joint sensor_noise sensor_noise "$drives"/ticks/vehicle-0[01]*.parquet "$drives"/single/*.parquet --judge noise --margin 2 --signals "$car" \
    --monitor "$noisy,TMS_State.Outside*,CLIM_Cabin.*"
